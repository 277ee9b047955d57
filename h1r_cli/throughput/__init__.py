"""Throughput of one engine, or of two in turn, cell by cell, and a number only when it is honest.

grid         settings -> cells, each with the engine of either side; suites are what is published
loop         the cells one after the other, each written down when it is whole
seat         an engine in a process of its own (worker), spoken to by orders, watched from outside (watch)
cell         warm-up until steady, repeats, gates; two in turn, and their ratio
timeline     one batch of requests: when which tokens came
figures      a timeline -> tokens a second, latencies, prefill and decode apart
gates        what makes a cell invalid, with its reason
arithmetic   memory, the largest batch and the roof by the config; peaks are a machine's, measured
result       the schema of report.json; table, picture and report/throughput show it; compare holds two against each
             other
"""
