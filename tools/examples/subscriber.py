"""A lead subscriber in 30 lines: connect with the desk's certificate, verify each envelope, print what was signed.

    python tools/examples/subscriber.py SITE/desks/NAME SITE/ca.pem HOST PORT

It shows the interface, no more: `turnkeyctl leads` also finds duplicates, conflicts and gaps, and stores before it
acknowledges.
"""

import ssl
import sys
from pathlib import Path

import paho.mqtt.client as mqtt

from turnkey.envelope import EnvelopeError, PublicKey, verify
from turnkey.leads.records import PAYLOAD_TYPE_LEAD, Lead

folder, ca, host, port = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])


def on_message(_client, _userdata, message):  # type: ignore[no-untyped-def]
    device = message.topic.split("/")[2]
    try:
        key = PublicKey.from_pem((folder / "devices" / f"{device}.pub").read_bytes())
        lead = Lead.model_validate_json(verify(message.payload, PAYLOAD_TYPE_LEAD, [key]).payload)
    except (EnvelopeError, ValueError, OSError) as error:
        print(f"refused: {error}", flush=True)
    else:
        print(lead.notice, device, lead.sequence, [candidate.reference for candidate in lead.candidates], flush=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=folder.name, protocol=mqtt.MQTTv5)
client.tls_set(ca, str(folder / "mqtt.pem"), str(folder / "mqtt.key"), tls_version=ssl.PROTOCOL_TLS_CLIENT)
client.on_message = on_message
client.on_connect = lambda *_: client.subscribe("turnkey/v1/+/lead", qos=1)
client.connect(host, port)
client.loop_forever()
