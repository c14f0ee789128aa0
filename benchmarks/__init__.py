"""This project beside its peers: the same input, the same cores, one run, ratios printed.

`python -m benchmarks` lists what there is; `python -m benchmarks data` runs a group. A group is a package
whose `run(options)` yields `Table`s.
"""
