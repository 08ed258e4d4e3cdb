"""Batch: thousands of prompts, one model load, nothing lost.

    sources -> rows -> plan -> worker -> folder
    lines      Row     Batch   Outcome   picture + record

The layout of batches is decided by the plan alone, never by what is left after a crash. Kernels
round differently at different batch sizes, so only this makes a resumed run equal to an
uninterrupted one byte for byte.
"""
