"""Digests of results: what `digest.py` runs.

    case.py      what a case is, how its key reads, what its digest is
    inputs.py    arrays that depend on a text alone
    runner.py    runs cases on every instruction set and number of threads
    api/         every call of fusedrop
    cases/       the cases, one module a topic; cases/torch/ needs PyTorch
    errors/      wrong calls, and what their exceptions say

Keys and cases use words of their own (neutral words). So a renamed function, argument or attribute changes the folder
`api` alone, and the lines before and after the change can be compared.
"""
