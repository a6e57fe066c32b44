// gaussian_tail: coefficients of S(t), lowest power first. csrc/core/fit_gaussian_tail.py writes this file.
#pragma once

#include "core/platform.hpp"

namespace fusedrop {

template <class T>
struct GaussianTail;

// Relative error of the tail: 2.7e-9 before rounding
template <>
struct GaussianTail<float> {
  static constexpr int degree = 11;
  // A function: device code can call it, and no object file exports the table.
  static FD_FN constexpr double coefficient(int power) {
    constexpr double c[12] = {
        0.099735570506156006, 0.099735452692562371, 0.093507822126709289, 0.080923945007300965,
        0.064636094101387905, 0.036360551642436923, 0.050093000496926064, -0.060786493934084367,
        0.11024469412043427,  -0.12464849910139247, 0.061451132228720322, -0.011253270228281167,
    };
    return c[power];
  }
};

// Relative error of the tail: 1.2e-17 before rounding
template <>
struct GaussianTail<double> {
  static constexpr int degree = 24;
  // A function: device code can call it, and no object file exports the table.
  static FD_FN constexpr double coefficient(int power) {
    constexpr double c[25] = {
        0.099735570100358169,   0.099735570100359153,   0.093502096968884585,   0.081035150722691865,
        0.063503506846907927,   0.04324473701953759,    0.023399588589511836,   0.0071863672340273799,
        -0.0030807616339548644, -0.0064944063169504888, -0.0055152563871627661, 0.00044420542319733566,
        0.0041160425497567176,  -0.020638974743350471,  0.1086564953652391,     -0.31552249428619115,
        0.66145894961700951,    -1.0539380827820297,    1.2545363835977649,     -1.0981055311913623,
        0.69715484932438551,    -0.31337196751110335,   0.094932182638169314,   -0.017448809526495567,
        0.0014745882807997532,
    };
    return c[power];
  }
};

}  // namespace fusedrop
