"""The console: what a booking-desk officer sees and touches.

Rules kept here:
1. Never a candidate, a score or a name: what the booth says to this room holds none (`room.Answer`).
2. Nothing in this room can make a picture, a template or a record: it asks the booth and the notary, which ask for a
   permit.
3. Without a session there is sign-in, status and static files, and nothing else.
4. One browser at a time; what it may see is decided here on each request, never in the browser.
"""
