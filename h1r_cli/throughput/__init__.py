"""Throughput of an engine, cell by cell, and a number only when it is honest.

timeline   one batch of requests: when which tokens came
figures    a timeline -> tokens a second, latencies, prefill and decode apart
gates      what makes a cell invalid, with its reason
cell       warm-up until steady, repeats, gates
"""
