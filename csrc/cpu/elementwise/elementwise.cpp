// elementwise: dropout, masks, activations, the softmax and the optimizer steps of one instruction set.
#include "cpu/elementwise/activation.inl"
#include "cpu/elementwise/dropout.inl"
#include "cpu/elementwise/softmax.inl"
#include "cpu/elementwise/update.inl"
#include "cpu/runtime/kernels.hpp"
