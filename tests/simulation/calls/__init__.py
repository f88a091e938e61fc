"""Models that call others. What makes their calls (``modelyard.calling.caller``) is the real code;
the HTTP between a runner and a gateway is not, but it breaks as connections do.
"""
