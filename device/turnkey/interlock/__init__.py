"""The interlock: the kill switch, the latch behind it and the permit before every step."""
