"""Traces leave a process here: the only place, besides the runner's own spans, that knows
OpenTelemetry (the extra ``modelyard[traces]``). What a span says is in ``core/spans.py``.
"""
