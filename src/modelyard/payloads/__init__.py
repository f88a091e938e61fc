"""The payload log: a share of requests and answers, kept for later.

What belongs here: choosing requests and handing their bytes over, in the gateway (``log.py``,
``process.py``), and the process that reads, masks and keeps them (``writer``). The gateway's side
parses nothing, waits for nothing and keeps a bounded number of bytes; whatever does not fit is
dropped and counted.

    LoggedDispatch.start ─▶ PayloadLog.watch ─▶ on_answered ─▶ frames ─ socket ─▶ writer:
      decoding ─▶ masking ─▶ chunks ─▶ files (folder, bucket) or events (CloudEvents over HTTP)
"""
