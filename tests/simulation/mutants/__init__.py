"""Mutants: defects put into the product on purpose, each of which the oracle must find.

``mutant`` says what one is, ``core`` and ``amqp`` which there are, ``hunt`` that they are found.
"""
