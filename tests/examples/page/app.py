# SPDX-License-Identifier: MIT-0
"""A page, and the stream that it shows: `make serve TASK_ROOT=tests/examples/page`, then open it in a browser."""

import time

PAGE = """\
<!doctype html>
<meta charset="utf-8">
<title>Streaming from Lambda</title>
<h1>Streaming from Lambda</h1>
<ol id="words"></ol>
<script>
  const words = document.getElementById("words");
  const events = new EventSource("events");
  events.onmessage = (event) => words.insertAdjacentHTML("beforeend", `<li>${event.data}</li>`);
  events.addEventListener("end", () => { events.close(); document.title = "Done"; });
</script>
"""


def handler(event, context):
    if event["rawPath"] == "/":
        yield {"headers": {"content-type": "text/html; charset=utf-8"}}
        yield PAGE
    elif event["rawPath"] == "/events":
        yield {"headers": {"content-type": "text/event-stream", "cache-control": "no-store"}}
        for word in ("each", "word", "arrives", "when", "it", "is", "made", "✓"):
            yield f"data: {word}\n\n"
            time.sleep(0.2)
        yield "event: end\ndata:\n\n"
    else:
        yield {"statusCode": 404}
