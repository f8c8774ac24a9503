# SPDX-License-Identifier: MIT-0
"""What popular libraries find, and count on, without the libraries themselves: `make libraries` runs those."""

from __future__ import annotations

import json
import sys
import unittest

from scripted_api import REQUEST_ID, event
from support import RuntimeTestCase


class ErrorTrackers(RuntimeTestCase):
    """Sentry's SDK sends in the background, and waits for that in a patch of the method that posts a result."""

    APP = """
        import os, sys, urllib.request
        client = sys.modules["__main__"].bootstrap
        def flush(name):
            post = getattr(client.LambdaRuntimeClient, name)
            def inner(*args, **kwargs):
                try:
                    urllib.request.urlopen(f"http://{os.environ['AWS_LAMBDA_RUNTIME_API']}/told")
                except urllib.error.HTTPError:
                    pass
                return post(*args, **kwargs)
            setattr(client.LambdaRuntimeClient, name, inner)
        def patch():
            for name in ("post_invocation_result", "post_invocation_error"):
                flush(name)
            handle = client.handle_event_request
            def handle_event_request(client, handler, *args, **kwargs):
                return handle(client, lambda event, context: ["wrapped", handler(event, context)], *args, **kwargs)
            client.handle_event_request = handle_event_request
        def handler(event, context):
            if event == "patch":
                patch()
            return 1 / event if event == 0 else event
    """

    def test_all_is_told_before_lambda_may_freeze_the_process(self) -> None:
        self.app(self.APP)
        served = self.serve(event(b'"patch"'), event(b"1"), event(b"0"))
        endpoints = [one.endpoint for one in served.requests if one.endpoint != "next"]
        self.assertEqual(endpoints, ["other", "response", "other", "response", "other", "error"])

    def test_patched_in_the_handler(self) -> None:
        self.app(self.APP)
        served = self.serve(event(b'"patch"'), event(b"1"))
        self.assertEqual(self.results(served), ["patch", ["wrapped", 1]])


class Tracers(RuntimeTestCase):
    def test_the_runtimes_own_requests_are_not_traced(self) -> None:
        """X-Ray's SDK, Sentry, Datadog and New Relic wrap the methods of http.client: to trace the user's requests."""
        self.app("""
            import http.client, inspect
            seen = []
            def wrap(name, method):
                def inner(self, *args, **kwargs):
                    seen.append(name)
                    if name == "endheaders":
                        self.putheader("x-trace", "1")
                    return method(self, *args, **kwargs)
                return inner
            for name, method in inspect.getmembers(http.client.HTTPConnection, inspect.isfunction):
                setattr(http.client.HTTPConnection, name, wrap(name, method))
            def handler(event, context):
                return seen
        """)
        served = self.serve(event(), event())
        self.assertEqual(self.results(served), [[], []])
        for request in served.requests:
            self.assertNotIn("x-trace", request.headers)

    def test_an_alarm_at_each_event(self) -> None:
        """Datadog sets one for shortly before the time-out: signal.signal() works in the main thread alone."""
        self.app("""
            import signal, threading
            def handler(event, context):
                rung = threading.Event()
                original = signal.signal(signal.SIGALRM, lambda *_: rung.set())
                signal.setitimer(signal.ITIMER_REAL, min(context.get_remaining_time_in_millis() / 1000, 0.01))
                try:
                    return rung.wait(10)
                finally:
                    signal.signal(signal.SIGALRM, original)
        """)
        self.assertEqual(self.results(self.serve(event(), event())), [True, True])

    def test_no_secret_in_the_stack(self) -> None:
        """loguru and rich show the values of the names in each line of a stack, from the start of the process on."""
        self.app("""
            import linecache, os, re, sys
            def handler(event, context):
                frame, shown, files = sys._getframe(1), {}, set()
                while frame:
                    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
                    files.add(frame.f_code.co_filename.rpartition("/")[2])
                    names = {**frame.f_globals, **frame.f_locals}
                    for name in re.findall(r"[A-Za-z_][\\w.]*", line):
                        try:
                            shown[name] = repr(eval(name, names))
                        except Exception:
                            pass
                    frame = frame.f_back
                secret = os.environ["AWS_SECRET_ACCESS_KEY"]
                return ["runtime.py" in files, [name for name in shown if secret in shown[name]]]
        """)
        served = self.serve(event(), env={"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI"})
        self.assertEqual(self.results(served), [[True, []]])

    def test_the_context_is_known_by_its_name(self) -> None:
        self.assertEqual(self.evaluate("type(context).__name__"), "LambdaContext")


class LogRecords(RuntimeTestCase):
    def test_what_they_leave_behind(self) -> None:
        """Sentry's SDK looks at a record when all handlers have seen it, and tells what is new on it."""
        self.app("""
            import logging
            seen = []
            call_handlers = logging.Logger.callHandlers
            def patched(self, record):
                call_handlers(self, record)
                seen.append([record.aws_request_id, record.tenant_id])
            logging.Logger.callHandlers = patched
            def handler(event, context):
                logging.getLogger("shop").warning("told")
                return seen
        """)
        served = self.serve(event(headers={"Lambda-Runtime-Aws-Tenant-Id": "blue"}))
        self.assertEqual(self.results(served), [[[REQUEST_ID, "blue"]]])

    def test_a_format_with_fields_of_a_factory(self) -> None:
        """Datadog's library finds the handler by its name, and puts the trace id into the text."""
        self.app("""
            import logging
            (handler,) = [one for one in logging.root.handlers if type(one).__name__ == "LambdaLoggerHandler"]
            assert isinstance(handler.formatter, logging.Formatter)
            handler.setFormatter(logging.Formatter("%(levelname)s %(aws_request_id)s %(trace.id)s %(message)s\\n"))
            make_record = logging.Logger.makeRecord
            def patched(*args, **kwargs):
                record = make_record(*args, **kwargs)
                setattr(record, "trace.id", 7)
                return record
            logging.Logger.makeRecord = patched
            def handler(event, context):
                logging.warning("told")
        """)
        self.assertEqual(self.serve(event()).stdout, f"WARNING {REQUEST_ID} 7 told\n")

    @unittest.skipUnless(sys.version_info >= (3, 12), "taskName is new in Python 3.12")
    def test_the_task_that_logs(self) -> None:
        self.app("""
            import asyncio, logging
            async def main():
                asyncio.current_task().set_name("checkout")
                logging.warning("told")
            def handler(event, context):
                logging.warning("no task")
                asyncio.run(main())
        """)
        served = self.serve(event(), env={"AWS_LAMBDA_LOG_FORMAT": "JSON"})
        records = [json.loads(line) for line in served.stdout.splitlines()]
        self.assertEqual([record.get("taskName", "absent") for record in records], ["absent", "checkout"])


if __name__ == "__main__":
    unittest.main()
