"""Differential tests of the virtual database: the same statements on four shards through a67, and on one plain database
that holds the same rows. Answers, types and error classes must be equal; a refusal (0A000) is no wrong answer.

world.py makes both sides, compare.py runs and compares, queries/ has the curated cases, generate.py makes random ones, tpch.py
and tpch/ are TPC-H at a small scale.
"""
