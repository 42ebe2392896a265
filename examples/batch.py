"""A hundred questions as one job, with the official client.

COE_URL names the service, http://127.0.0.1:8000/v1 if it does not; COE_API_KEY has the key.
"""

import json
import os
import time

from openai import OpenAI

client = OpenAI(base_url=os.environ.get("COE_URL", "http://127.0.0.1:8000/v1"), api_key=os.environ["COE_API_KEY"])

lines = [
    {
        "custom_id": f"question-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "auto", "messages": [{"role": "user", "content": f"Write {number} as a Roman number."}]},
    }
    for number in range(1, 101)
]
content = "".join(json.dumps(line) + "\n" for line in lines).encode()

file = client.files.create(file=("questions.jsonl", content), purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(0.5)
    batch = client.batches.retrieve(batch.id)
    print(batch.status, batch.request_counts)

if batch.output_file_id:
    for row in client.files.content(batch.output_file_id).text.splitlines():
        answer = json.loads(row)
        print(answer["custom_id"], answer["response"]["body"]["choices"][0]["message"]["content"])
