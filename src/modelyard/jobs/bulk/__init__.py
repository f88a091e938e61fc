"""Bulk: a file of rows is one job, and what comes of it is another file.

Path of a bulk run: ``gateway/batch_pages.py`` puts the file in its place (``places.py``) and makes
a job of it → the pump leases it like every job, and hands it to ``runs.py`` → ``run.py`` reads rows
(``reading.py``, ``tables.py``), sends as many as fill a batch through dispatch (``asking.py``), and
keeps what comes back chunk by chunk (``chunks.py``) → the chunks become the output
(``writing.py``).

A chunk is kept with its place in the input in one transaction, under the lease of the job. So
whoever takes the job over goes on after the last chunk, and no chunk is there twice.

Here belongs what happens between a file of rows and the file of their predictions. Libraries that
read or write tables have their home in ``tables.py``, and what reaches URLs in ``remote.py``.
"""
