"""One module for each parser of foreign bytes: ``run(data)`` returns, or fails with what is wrong.

A target lets only the errors pass that the parser's docstring names. Where there is a second way to
the same result (a simple decoder, the same bytes in pieces, encoding again), it compares the two.
"""
