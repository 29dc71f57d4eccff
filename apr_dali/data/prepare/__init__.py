"""From the archives that people have to the folders or tars that trainers read: `apr-dali prepare`.

A source says what it holds without reading an image (`catalogue.Source`), the job cuts that into units, a class
folder's files or a tar each, and processes write the units, whole or not at all.
"""
