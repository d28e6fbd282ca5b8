"""The lead desk: receives leads over MQTT, verifies them and shows them. desk.py decides, store.py remembers."""
