"""Wrong calls: which exception each raises, and its text.

The files:
    calls.py        how a wrong call is written: good arguments, and rows that spoil some of them
    outcomes.py     makes the calls, and makes lines of their exceptions
    functions.py, images.py, ...    the wrong calls of one part of fusedrop; torch.py needs PyTorch
"""
