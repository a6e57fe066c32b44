"""The command `fusedrop`: info and demo."""
