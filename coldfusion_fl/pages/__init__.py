"""Pages for a browser: the report of a run or of an experiment as one HTML file, and the live dashboard of a run.

Names, reasons and numbers on a page come from other parties. Templates escape every text, and a page runs only the
scripts that it was written with: a Content-Security-Policy names them by their hashes and forbids the network.
"""
