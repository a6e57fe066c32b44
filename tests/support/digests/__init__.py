"""Digests of results: the cases of `digest.py`, one module a topic.

    inputs.py    arrays from texts
    cases.py     what a case is, how its key reads, what its digest is
    runner.py    cases, instruction sets and threads into lines
    linear.py, conv2d.py, ...        the topics: tables of options, and the function that prepares a case of them
    errors.py, errors_<topic>.py     wrong calls, and what they say
    api.py, api_objects.py, api_torch.py    every call of fusedrop

A renamed function, argument or attribute changes the three `api` modules alone: keys use words of their own.
"""
