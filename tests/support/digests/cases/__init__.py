"""The cases: a module a topic, with tables of options and the functions that prepare a case of them."""
