# SPDX-License-Identifier: MIT-0
"""The log: records, uncaught errors and what is printed, on standard output and in frames, as text and as JSON."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import unittest
from collections.abc import Mapping
from typing import Any

from scripted_api import REQUEST_ID, Connection, ScriptedApi, answer, event, frames
from support import NO_BREAK_SPACE, PLAIN_TIME, RUNTIME, RuntimeTestCase, Served

JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}


def named(*names: str) -> list[Any]:
    """An event for each name."""
    return [event(json.dumps(name).encode()) for name in names]


class LoggingTestCase(RuntimeTestCase):
    def statements(
        self, *statements: str, setup: str = "", env: Mapping[str, str] | None = None, **options: Any
    ) -> Served:
        """Have a handler execute these, one an invocation."""
        self.app(
            "import logging, sys\nlogger = logging.getLogger()\n"
            + setup
            + "\ndef handler(event, context):\n    exec(event)\n"
        )
        served = self.serve(*named(*statements), env=env, **options)
        self.assertEqual([one.endpoint for one in served.answers], ["response"] * len(statements), served.answers)
        return served

    def records(self, text: str) -> list[dict[str, Any]]:
        """JSON records, one a line; the times are looked at, and left out."""
        records = [json.loads(line) for line in self.lines(text)]
        for record in records:
            self.assertEqual(next(iter(record)), "timestamp")
            self.assertEqual(record.pop("timestamp"), "<time>")
        return records


class TextRecords(LoggingTestCase):
    def test_records(self) -> None:
        served = self.statements(
            "logger.warning('warn %s %d', 'x', 3)",
            "logger.error('größe €😀')",
            "logger.critical('two\\nlines')",
            "logger.log(35, 'between')",
            "logging.getLogger('a.b').error('named')",
            "logger.info('not at this level')",
            setup="logger.warning('at import')",
        )
        expected = [
            "[WARNING]\t<time>\t\tat import",
            f"[WARNING]\t<time>\t{REQUEST_ID}\twarn x 3",
            f"[ERROR]\t<time>\t{REQUEST_ID}\tgröße €😀",
            f"[CRITICAL]\t<time>\t{REQUEST_ID}\ttwo",
            "lines",
            f"[Level 35]\t<time>\t{REQUEST_ID}\tbetween",
            f"[ERROR]\t<time>\t{REQUEST_ID}\tnamed",
        ]
        self.assertEqual(self.lines(served.stdout), expected)
        self.assertEqual(served.stderr, "")

    def test_time(self) -> None:
        """UTC with milliseconds, wherever the process thinks it is; the same second twice, and another one."""
        began = time.time()
        served = self.statements(
            "logger.warning('x'); logger.warning('y')",
            "old = {'created': 1_000_000_000.25, 'msecs': 250.0, 'levelno': 30, 'msg': 'old'}\n"
            "logger.handle(logging.makeLogRecord(old))",
            "logger.warning('again')",
            env={"TZ": "Asia/Tokyo"},
        )
        ended = time.time()
        times = [line.split("\t")[1] for line in served.stdout.splitlines()]
        self.assertEqual(times[2], "2001-09-09T01:46:40.250Z")
        for text in times[:2] + times[3:]:
            self.assertRegex(text, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")
            least, most = (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) for moment in (began, ended))
            self.assertTrue(least <= text[:19] <= most, (least, text, most))

    def test_an_exception_keeps_its_lines(self) -> None:
        served = self.statements(
            "try: 1 / 0\nexcept ZeroDivisionError: logger.exception('caught')\nlogger.error('after')"
        )
        lines = self.lines(served.stdout)
        self.assertEqual(lines[0], f"[ERROR]\t<time>\t{REQUEST_ID}\tcaught")
        self.assertEqual(lines[1], "Traceback (most recent call last):")
        self.assertIn("ZeroDivisionError: division by zero", lines)
        self.assertEqual(lines[-1], f"[ERROR]\t<time>\t{REQUEST_ID}\tafter")

    def test_each_invocation_has_its_id(self) -> None:
        self.app("import logging\ndef handler(event, context): logging.warning('x')")
        served = self.serve(event(request_id="one"), event(request_id="two"))
        self.assertEqual(self.lines(served.stdout), ["[WARNING]\t<time>\tone\tx", "[WARNING]\t<time>\ttwo\tx"])

    def test_logging_imported_late(self) -> None:
        """By the handler, in a thread, or by a module that is imported then: it is set up whenever that is."""
        self.app("""
            import sys
            def late():
                import logging.handlers
                logging.warning("late")
            def handler(event, context):
                from threading import Thread
                thread = Thread(target=late)
                thread.start()
                thread.join()
        """)
        served = self.serve(event())
        self.assertEqual(self.lines(served.stdout), [f"[WARNING]\t<time>\t{REQUEST_ID}\tlate"])


class Levels(LoggingTestCase):
    def test_levels(self) -> None:
        """AWS_LAMBDA_LOG_LEVEL is the root logger's level in both formats."""
        says = "for level in (5, 10, 20, 30, 40, 50): logger.log(level, str(level))"
        rows = [
            (None, ["30", "40", "50"]),
            ("", ["30", "40", "50"]),
            ("TRACE", ["10", "20", "30", "40", "50"]),
            ("DEBUG", ["10", "20", "30", "40", "50"]),
            ("INFO", ["20", "30", "40", "50"]),
            ("info", ["20", "30", "40", "50"]),
            ("WARN", ["30", "40", "50"]),
            ("WARNING", ["30", "40", "50"]),
            ("ERROR", ["40", "50"]),
            ("FATAL", ["50"]),
            ("CRITICAL", ["50"]),
            ("NONSENSE", ["30", "40", "50"]),
        ]
        for level, expected in rows:
            with self.subTest(level):
                env = {} if level is None else {"AWS_LAMBDA_LOG_LEVEL": level}
                lines = self.statements(says, env=env).stdout.splitlines()
                self.assertEqual([line.split("\t")[-1] for line in lines], expected)
        records = self.records(self.statements(says, env={**JSON, "AWS_LAMBDA_LOG_LEVEL": "error"}).stdout)
        self.assertEqual([record["message"] for record in records], ["40", "50"])

    def test_uncaught_errors_are_logged_at_any_level(self) -> None:
        self.app("import logging\ndef handler(event, context): 1 / 0")
        for env in ({"AWS_LAMBDA_LOG_LEVEL": "FATAL"}, {"AWS_LAMBDA_LOG_LEVEL": "FATAL", **JSON}):
            with self.subTest(env=env):
                self.assertIn("division by zero", self.serve(event(), env=env).stdout)


class JsonRecords(LoggingTestCase):
    def test_records(self) -> None:
        served = self.statements(
            "logger.warning('warn %s %d', 'x', 3)",
            "logging.getLogger('a.b').error('größe\\n€')",
            "logger.warning({'a': [1]})",
            "logger.warning([1])",
            "logger.log(35, 'between')",
            "logger.info('not at this level')",
            setup="logger.warning('at import')",
            env=JSON,
        )
        common = {"level": "WARNING", "logger": "root", "requestId": REQUEST_ID}
        expected: list[dict[str, Any]] = [
            {**common, "message": "at import", "requestId": ""},
            {**common, "message": "warn x 3"},
            {**common, "message": "größe\n€", "level": "ERROR", "logger": "a.b"},
            {**common, "message": {"a": [1]}},
            {**common, "message": "[1]"},
            {**common, "message": "between"},
        ]
        self.assertEqual(self.records(served.stdout), expected)
        self.assertIn("größe\\n€", served.stdout, "UTF-8, no escapes")

    def test_order_of_keys(self) -> None:
        served = self.statements(
            "try: {}['k']\nexcept KeyError: logger.error('caught', exc_info=True, extra={'mine': 1})", env=JSON
        )
        (line,) = self.lines(served.stdout)
        keys = ["timestamp", "level", "message", "logger", "stackTrace", "errorType", "errorMessage", "requestId"]
        self.assertEqual(list(json.loads(line)), [*keys, "location", "mine"])

    def test_an_exception(self) -> None:
        path = self.app("""
            import logging
            def handler(event, context):
                try:
                    raise KeyError("k")
                except KeyError:
                    logging.exception("caught")
        """)
        (record,) = self.records(self.serve(event(), env=JSON).stdout)
        self.assertEqual((record["errorType"], record["errorMessage"]), ("KeyError", "'k'"))
        self.assertEqual(record["location"], f"{path}:handler:7")
        self.assertEqual(len(record["stackTrace"]), 1)
        self.assertTrue(record["stackTrace"][0].startswith(f'  File "{path}", line 5, in handler\n'))

    def test_extra(self) -> None:
        """Whatever came in extra= is there; what is not JSON as its repr; the request id is not to be forged."""
        served = self.statements(
            "logger.warning('m', extra={'k': 1, 'nested': {'a': [1, None]}, 'ü': 'ü', 'odd': {1, }})",
            "logger.warning('m', extra={'requestId': 'mine', 'tenantId': 't', 'level_': 1})",
            env=JSON,
        )
        first, second = self.records(served.stdout)
        self.assertEqual((first["k"], first["nested"], first["ü"], first["odd"]), (1, {"a": [1, None]}, "ü", "{1}"))
        self.assertEqual((second["requestId"], second["tenantId"], second["level_"]), (REQUEST_ID, "t", 1))

    def test_tenant(self) -> None:
        self.app("import logging\ndef handler(event, context): logging.warning('x')")
        served = self.serve(event(headers={"Lambda-Runtime-Aws-Tenant-Id": "blue"}), event(), env=JSON)
        first, second = self.records(served.stdout)
        self.assertEqual(first.pop("tenantId"), "blue")
        self.assertEqual(first, second)

    def test_the_name_of_the_format_is_known_in_any_case(self) -> None:
        for name, is_json in (("json", True), ("Json", True), ("Text", False), ("", False), ("XML", False)):
            with self.subTest(name):
                served = self.statements("logger.warning('x')", env={"AWS_LAMBDA_LOG_FORMAT": name})
                self.assertEqual(served.stdout.startswith("{"), is_json)


class Frames(LoggingTestCase):
    """_LAMBDA_TELEMETRY_LOG_FD: each record as a frame, whose type says what it is."""

    SAYS = "for level in (10, 15, 20, 25, 30, 40, 50, 60): logger.log(level, str(level))"

    def test_types(self) -> None:
        by_level = {"10": 0x0B, "15": 0x0B, "20": 0x0F, "25": 0x0F, "30": 0x13, "40": 0x17, "50": 0x1B, "60": 0x1B}
        text_without_level = dict.fromkeys(("30", "40", "50", "60"), 3)
        as_json = {level: kind - 1 for level, kind in by_level.items()}
        rows: list[tuple[str, dict[str, str], dict[str, int]]] = [
            ("text without a level is just text", {}, text_without_level),
            ("text with a level", {"AWS_LAMBDA_LOG_LEVEL": "DEBUG"}, by_level),
            ("JSON", JSON, {level: kind for level, kind in as_json.items() if level in text_without_level}),
            ("JSON with a level", {**JSON, "AWS_LAMBDA_LOG_LEVEL": "DEBUG"}, as_json),
        ]
        for name, env, expected in rows:
            with self.subTest(name):
                served = self.statements(self.SAYS, env=env, framed=True)
                found = {}
                for frame in frames(served.done.log):
                    text = frame.message.decode()
                    self.assertTrue(text.endswith("\n"), text)
                    message = json.loads(text)["message"] if env.get("AWS_LAMBDA_LOG_FORMAT") else text.split("\t")[3]
                    found[message.strip()] = frame.type - 0xA55A0000
                self.assertEqual(found, expected)
                self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_a_frame(self) -> None:
        """Its time is in microseconds, and its length that of the whole message, line breaks and all."""
        began = time.time()
        served = self.statements("logger.warning('größe\\n€\\n')", framed=True)
        (frame,) = frames(served.done.log)
        self.assertEqual(
            PLAIN_TIME.sub("<time>", frame.message.decode()), f"[WARNING]\t<time>\t{REQUEST_ID}\tgröße\n€\n\n"
        )
        self.assertTrue(began - 1 <= frame.microseconds / 1e6 <= time.time() + 1)

    def test_what_is_not_a_record_stays_on_standard_output(self) -> None:
        served = self.statements(
            "print('printed')",
            "sys.stderr.write('error output\\n')",
            "import os; os.write(1, b'written\\n')",
            framed=True,
        )
        self.assertEqual((served.stdout, served.stderr), ("printed\nwritten\n", "error output\n"))
        self.assertEqual(served.framed, [])

    def test_the_variable_is_gone(self) -> None:
        """The descriptor is ours: a child process must not write to it what it takes for a log of its own."""
        self.assertIsNone(self.evaluate("os.environ.get('_LAMBDA_TELEMETRY_LOG_FD')", "import os", framed=True))

    def test_a_filter_of_the_users_that_raises(self) -> None:
        """At a warning of the runtime's own, which it loses then: nobody has to die for it."""
        self.app("""
            import logging
            logging.getLogger().handlers[0].addFilter(lambda record: record.user_id)
            def handler(event, context): return 1
        """)
        served = self.serve(event(), event(), response=[answer(413)])
        self.assertEqual([one.endpoint for one in served.answers], ["response"] * 2)
        self.assertEqual((served.done.status, served.stderr), (None, ""))

    def test_a_useless_descriptor(self) -> None:
        """One that is no number is none."""
        self.app("import logging\ndef handler(event, context):\n    logging.warning('x')\n    return 1")
        for value in ("one", "-1", ""):
            with self.subTest(value):
                served = self.serve(event(), env={"_LAMBDA_TELEMETRY_LOG_FD": value})
                self.assertEqual(self.results(served), [1])


class UncaughtErrors(LoggingTestCase):
    """One record however many lines it has, in each of the four formats."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.app("""
            class Empty(Exception): pass
            def deeper(error): raise error
            def handler(event, context): deeper(eval(event))
        """)
        self.frames = [
            f'  File "{self.path}", line 4, in handler',
            "    def handler(event, context): deeper(eval(event))",
            f'  File "{self.path}", line 3, in deeper',
            "    def deeper(error): raise error",
        ]
        space = NO_BREAK_SPACE
        self.indented = [line.replace("    ", space * 4).replace("  F", space * 2 + "F") for line in self.frames]

    def test_text_on_standard_output(self) -> None:
        """The lines of one record are parted by CR, and indented with no-break spaces."""
        served = self.serve(*named("ValueError('größe')", "Empty()", "ValueError('a\\n\\nb')", "KeyError('k')"))
        rest = "\r".join(["Traceback (most recent call last):", *self.indented])
        expected = [
            f"[ERROR] ValueError: größe\r{rest}\n",
            f"[ERROR] Empty\r{rest}\n",
            f"[ERROR] ValueError: a\n\nb\r{rest}\n",
            f"[ERROR] KeyError: 'k'\r{rest}\n",
        ]
        self.assertEqual(served.stdout, "".join(expected))

    def test_text_in_frames(self) -> None:
        rest = "\n".join(["Traceback (most recent call last):", *self.indented])
        for env in ({}, {"AWS_LAMBDA_LOG_LEVEL": "INFO"}):
            with self.subTest(env=env):
                served = self.serve(*named("ValueError('größe')", "Empty()"), env=env, framed=True)
                self.assertEqual(served.framed, [f"17 [ERROR] ValueError: größe\n{rest}", f"17 [ERROR] Empty\n{rest}"])
                self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_json(self) -> None:
        stack = ["\n".join(self.frames[:2]) + "\n", "\n".join(self.frames[2:]) + "\n"]
        expected = {
            "level": "ERROR",
            "errorMessage": "größe",
            "errorType": "ValueError",
            "requestId": REQUEST_ID,
            "stackTrace": stack,
        }
        served = self.serve(*named("ValueError('größe')"), env=JSON)
        self.assertEqual(self.records(served.stdout), [expected])
        (line,) = self.lines(served.stdout)
        self.assertEqual(list(json.loads(line)), ["timestamp", *expected])
        self.assertIn("größe", line, "UTF-8, no escapes")
        served = self.serve(*named("ValueError('größe')"), env=JSON, framed=True)
        (frame,) = frames(served.done.log)
        self.assertEqual(frame.type, 0xA55A0016)
        self.assertFalse(frame.message.endswith(b"\n"))
        self.assertEqual(self.records(frame.message.decode() + "\n"), [expected])
        self.assertEqual((served.stdout, served.stderr), ("", ""))

    def test_init_errors(self) -> None:
        """They look the same. There is no request yet, and no frame: a bare "Traceback" would look like a cut log."""
        message = "[ERROR] Runtime.ImportModuleError: Unable to import module 'nope': No module named 'nope'"
        served = self.serve(handler="nope.handler")
        self.assertIn(f"{message}\n", served.stdout)
        served = self.serve(handler="nope.handler", framed=True)
        self.assertIn(f"17 {message}", served.framed)
        served = self.serve(handler="nope.handler", env=JSON)
        record = self.records(served.stdout)[-1]
        self.assertEqual((record["errorType"], record["requestId"]), ("Runtime.ImportModuleError", ""))
        served = self.serve(handler="nope.handler", env=JSON, framed=True)
        self.assertEqual(frames(served.done.log)[-1].type, 0xA55A0016)
        self.assertIn(b"Runtime.ImportModuleError", frames(served.done.log)[-1].message)

    def test_text_that_is_not_unicode(self) -> None:
        for env in ({}, JSON):
            for framed in (False, True):
                with self.subTest(env=env, framed=framed):
                    served = self.serve(*named(r"ValueError('half \ud800')", "5"), env=env, framed=framed)
                    self.assertEqual(len(served.answers), 2)
                    self.assertIn(b"half ", served.done.stdout + served.done.log)

    def test_what_the_runtime_has_to_say(self) -> None:
        """A refused answer is a record as others are."""
        self.app("def handler(event, context): return 1")
        refused: dict[str, Any] = {
            "response": [answer(413, b'{"errorMessage": "too large", "errorType": "RequestEntityTooLarge"}')]
        }
        served = self.serve(event(), **refused)
        (line,) = self.lines(served.stdout)
        self.assertRegex(line, rf"^\[WARNING\]\t<time>\t{REQUEST_ID}\t.*413.*too large")
        (record,) = self.records(self.serve(event(), env=JSON, **refused).stdout)
        self.assertEqual((record["level"], record["requestId"]), ("WARNING", REQUEST_ID))
        self.assertIn("413", record["message"])
        rows = [({}, 3), ({"AWS_LAMBDA_LOG_LEVEL": "INFO"}, 0x13), (JSON, 0x12)]
        for env, kind in rows:
            with self.subTest(env=env):
                (frame,) = frames(self.serve(event(), env=env, framed=True, **refused).done.log)
                self.assertEqual(frame.type, 0xA55A0000 + kind)
                self.assertIn(b"413", frame.message)


class RootLogger(LoggingTestCase):
    def test_one_handler(self) -> None:
        told = self.evaluate(
            "[len(root.handlers), type(root.handlers[0]).__name__, root.handlers[0].level, root.level]",
            "import logging\nroot = logging.getLogger()",
        )
        self.assertEqual(told, [1, "LambdaLoggerHandler", 0, 30])

    def test_basic_config_does_nothing_unless_forced(self) -> None:
        """As on Lambda, where the root logger has a handler already."""
        served = self.statements(
            "logging.basicConfig(level=10, format='mine %(message)s'); logger.info('x'); logger.warning('y')",
            "logging.basicConfig(force=True, stream=sys.stdout, format='mine %(message)s'); logger.warning('z')",
        )
        self.assertEqual(self.lines(served.stdout), [f"[WARNING]\t<time>\t{REQUEST_ID}\ty", "mine z"])

    def test_a_formatter_of_the_users(self) -> None:
        """It is used as it is, and the request id is there for it."""
        setup = "logger.handlers[0].setFormatter(logging.Formatter('%(levelname)s %(message)s %(aws_request_id)s'))"
        says = "logger.warning('x'); logger.error('y')"
        first, second = f"WARNING x {REQUEST_ID}", f"ERROR y {REQUEST_ID}"
        self.assertEqual(self.lines(self.statements(says, setup=setup).stdout), [first, second])
        rows = [({}, "03", "03"), ({"AWS_LAMBDA_LOG_LEVEL": "INFO"}, "13", "17"), (JSON, "13", "17")]
        for env, *kinds in rows:
            with self.subTest(env=env):
                served = self.statements(says, setup=setup, env=env, framed=True)
                self.assertEqual(served.framed, [f"{kinds[0]} {first}", f"{kinds[1]} {second}"])

    def test_a_filter_of_the_users(self) -> None:
        served = self.statements(
            "logger.handlers[0].addFilter(lambda record: len(record.aws_request_id) == 36)",
            "logger.error('passes')",
            "logger.handlers[0].addFilter(lambda record: False)",
            "logger.error('does not')",
        )
        self.assertEqual(self.lines(served.stdout), [f"[ERROR]\t<time>\t{REQUEST_ID}\tpasses"])

    def test_a_formatter_of_the_users_tells_the_time_in_utc(self) -> None:
        served = self.statements(
            "import os, time; os.environ['TZ'] = 'Asia/Tokyo'; time.tzset()",
            "print(logging.Formatter('%(asctime)s', '%H').format(logging.makeLogRecord({'created': 0})))",
        )
        self.assertEqual(served.stdout, "00\n")

    def test_logging_that_was_imported_before_us(self) -> None:
        """As OpenTelemetry's wrapper does it: by a sitecustomize.py."""
        folder = self.folder()
        self.write(f"{folder}/sitecustomize.py", "import logging")
        for log_format, line in (("Text", f"[ERROR]\t<time>\t{REQUEST_ID}\tline"), ("JSON", None)):
            with self.subTest(log_format):
                env = {"PYTHONPATH": folder, "AWS_LAMBDA_LOG_FORMAT": log_format}
                served = self.statements("logger.error('line')", env=env)
                (found,) = self.lines(served.stdout)
                self.assertEqual(found if line else json.loads(found)["message"], line or "line")
                self.assertEqual(served.stderr, "")

    def test_the_name_by_which_libraries_know_the_handler(self) -> None:
        for env, name in (
            ({}, "LambdaLoggerHandler"),
            ({"AWS_LAMBDA_LOG_FORMAT": "JSON"}, "LambdaLoggerHandlerWithFrameType"),
            ({"AWS_LAMBDA_LOG_LEVEL": "INFO"}, "LambdaLoggerHandlerWithFrameType"),
        ):
            with self.subTest(env):
                self.assertEqual(
                    self.evaluate("type(logging.root.handlers[0]).__name__", "import logging", env=env), name
                )

    def test_a_handler_of_the_users(self) -> None:
        setup = "logger.handlers.clear(); logger.addHandler(logging.StreamHandler(sys.stdout))"
        self.assertEqual(self.statements("logger.warning('x')", setup=setup).stdout, "x\n")

    def test_records_of_other_threads_are_whole(self) -> None:
        self.app("""
            import logging
            from threading import Thread
            def say(name):
                for number in range(50): logging.warning("%s %d %s", name, number, "x" * 500)
            def handler(event, context):
                threads = [Thread(target=say, args=(name,)) for name in "abcd"]
                for thread in threads: thread.start()
                for thread in threads: thread.join()
        """)
        expected = sorted(f"[WARNING]\t<time>\t{REQUEST_ID}\t{n} {i} {'x' * 500}" for n in "abcd" for i in range(50))
        self.assertEqual(sorted(self.lines(self.serve(event()).stdout)), expected)
        self.assertEqual(len(frames(self.serve(event(), framed=True).done.log)), 200)

    def test_a_record_that_cannot_be_made(self) -> None:
        """A bad record is no reason for the invocation to fail, whatever logging says about it on stderr."""
        self.app("import logging\ndef handler(event, context):\n    logging.warning('%d', 'x')\n    return 1")
        self.assertEqual(self.results(self.serve(event(), tracebacks=True)), [1])


class Output(LoggingTestCase):
    """All is out as it is written, in order."""

    def test_lines_are_out_before_the_process_is_killed(self) -> None:
        """As it is when it takes too long, or too much memory."""
        rows = [
            ("printed", "print('a line')", {}, False),
            ("a record", "logging.error('a line')", {}, False),
            ("a record, JSON", "logging.error('a line')", JSON, False),
            ("a record, framed", "logging.error('a line')", {}, True),
            ("a message", "context.log('a line')", {}, False),
            ("on stderr", "print('a line', file=sys.stderr)", {}, False),
            ("printed, then a record", "print('a', end=' '); logging.error('line')", {}, False),
        ]
        for name, statement, env, framed in rows:
            with self.subTest(name):
                self.app(f"""
                    import logging, os, signal, sys
                    def handler(event, context):
                        {statement}
                        os.kill(os.getpid(), signal.SIGKILL)
                """)
                done = self.serve(event(), env=env, framed=framed).done
                self.assertEqual(done.status, -signal.SIGKILL)
                self.assertIn(b"line", done.stdout + done.stderr + done.log)

    def test_all_is_out_before_the_response_is_sent(self) -> None:
        """Lambda may freeze the process at that moment: it is ended there, and what it wrote is looked at."""

        def kill(connection: Connection) -> None:
            connection.read()
            report = json.loads(connection.request.body)
            os.kill(int(report["errorMessage"] if isinstance(report, dict) else report), signal.SIGKILL)

        self.app("""
            import os, sys
            def handler(event, context):
                print("half a line", end="")
                sys.stderr.write("half on stderr")
                if event: raise ValueError(os.getpid())
                return os.getpid()
        """)
        for body in (b"0", b"1"):
            with self.subTest("error" if body == b"1" else "response"):
                served = self.serve(event(body), response=[[kill]], error=[[kill]])
                self.assertEqual(served.done.status, -signal.SIGKILL)
                self.assertTrue(served.stdout.startswith("half a line"), served.stdout)
                self.assertEqual(served.stderr, "half on stderr")

    def test_order(self) -> None:
        """Printed, logged, written to the descriptor by a child process: as it was done."""
        self.app("""
            import logging, subprocess, sys
            print("0")
            def handler(event, context):
                print("1"); logging.error("2"); print("3", end=""); context.log("4"); print("5")
                sys.stdout.write("6\\n"); subprocess.run(["echo", "7"]); logging.error("8")
                context.log("nine"); context.log("\\n")
                print("ten"); raise ValueError("eleven")
        """)
        lines = self.lines(self.serve(event()).stdout)
        texts = [line.split("\t")[-1].split("\r")[0] for line in lines]
        self.assertEqual(texts, ["0", "1", "2", "345", "6", "7", "8", "nine", "ten", "[ERROR] ValueError: eleven"])

    def test_messages_are_written_as_they_are(self) -> None:
        self.app("""
            def handler(event, context):
                for message in ("plain", "a line\\n", b"bytes", 5, None, "größe\\n"): context.log(message)
        """)
        self.assertEqual(self.serve(event()).stdout, "plaina line\nb'bytes'5Nonegröße\n")
        self.assertEqual(self.serve(event(), env=JSON).stdout, "plaina line\nb'bytes'5Nonegröße\n")
        expected = ["03 plain", "03 a line\n", "03 b'bytes'", "03 5", "03 None", "03 größe\n"]
        self.assertEqual(self.serve(event(), framed=True).framed, expected)
        self.assertEqual(self.serve(event(), framed=True, env=JSON).framed, expected)

    def test_one_write_a_record(self) -> None:
        """CloudWatch makes an event of a write. A datagram socket as standard output keeps writes apart."""
        self.app("""
            import logging
            def handler(event, context):
                logging.error("a record %s", "y" * 70_000)
                context.log("a message\\n")
                raise ValueError("z" * 70_000)
        """)
        expected = ["y" * 70_000, "a message", "z"]
        for framed in (False, True):
            with self.subTest(framed=framed):
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
                self.addCleanup(ours.close)
                ours.settimeout(20)
                with ScriptedApi([event()]) as api, theirs:
                    given = {"AWS_LAMBDA_RUNTIME_API": api.address}
                    if framed:
                        given["_LAMBDA_TELEMETRY_LOG_FD"] = str(theirs.fileno())
                    process = subprocess.Popen(
                        [sys.executable, str(RUNTIME), "app.handler"],
                        env=self.environment(given),
                        stdout=subprocess.DEVNULL if framed else theirs.fileno(),
                        pass_fds=[theirs.fileno()],
                    )
                    try:
                        writes = [ours.recv(1 << 20) for _ in expected]
                        self.assertTrue(api.wait(api.idle.is_set))
                    finally:
                        process.kill()
                        process.wait()
                for text, words in zip(writes, expected):
                    self.assertIn(words, text.decode("utf-8", "replace"))
                    self.assertEqual(len(frames(text)) if framed else text.endswith(b"\n"), 1, "whole, and by itself")

    def test_utf_8_whatever_the_locale(self) -> None:
        self.app("""
            import logging
            def handler(event, context):
                print(event); logging.error(event); context.log(event + "\\n"); raise ValueError(event)
        """)
        for env in ({"LC_ALL": "C"}, {"LC_ALL": "C.UTF-8"}, {}):
            with self.subTest(env=env):
                self.assertEqual(self.serve(*named("größe €😀"), env=env).stdout.count("größe €😀"), 4)

    def test_standard_output_replaced_or_closed(self) -> None:
        """★ Nothing that the runtime writes is lost, and nothing breaks."""
        rows = [
            ("replaced by a buffer", "import io; sys.stdout = sys.stderr = io.StringIO()"),
            ("replaced by nothing", "sys.stdout = sys.stderr = None"),
            ("replaced by something else", "sys.stdout = sys.stderr = object()"),
            ("replaced by what fails", "sys.stdout = Fails(); sys.stderr = Fails()"),
            ("closed", "sys.stdout.close(); sys.stderr.close()"),
            ("deleted", "del sys.stdout, sys.stderr"),
            ("the original replaced, too", "sys.__stdout__ = sys.stdout = None"),
        ]
        for name, statement in rows:
            for framed in (False, True):
                with self.subTest(name, framed=framed):
                    self.app(f"""
                        import logging, os, sys
                        class Fails:
                            def __getattr__(self, name): raise RuntimeError(name)
                        def handler(event, context):
                            if event == 1:
                                {statement}
                            elif event == 2:
                                logging.error("a record")
                                context.log("a message\\n")
                                raise ValueError("an error")
                            return event
                    """)
                    served = self.serve(event(b"1"), event(b"2"), event(b"3"), framed=framed)
                    self.assertEqual([one.endpoint for one in served.answers], ["response", "error", "response"])
                    said = " ".join(served.framed) if framed else served.stdout
                    for words in ("a record", "a message", "ValueError: an error"):
                        self.assertIn(words, said)


if __name__ == "__main__":
    unittest.main()
