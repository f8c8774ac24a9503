# SPDX-License-Identifier: MIT-0
"""What users reported about logs and output: each report is a test, with its nearest relatives.

A docstring names the report. The expected values are those of AWS's own client wherever it can run the function.
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import sys
import unittest
from typing import Any

from scripted_api import REQUEST_ID, event, frames
from support import RuntimeTestCase, Served, an_event, where

JSON = {"AWS_LAMBDA_LOG_FORMAT": "JSON"}


class Records(RuntimeTestCase):
    """The root logger, its handler and its formatter are what the logging recipes of the web take them for."""

    def log_of(self, setup: str, *statements: str, env: dict[str, str] | None = None, **options: Any) -> Served:
        """Run `setup` at import and each statement in an invocation."""
        lines = "\n".join(f"    if event == {number}: {code}" for number, code in enumerate(statements))
        self.app(f"import io, logging, sys, time\n{setup}\ndef handler(event, context):\n{lines}\n")
        served = self.serve(*(event(b"%d" % number) for number in range(len(statements))), env=env, **options)
        self.assertEqual([one.endpoint for one in served.answers], ["response"] * len(statements), served.answers)
        return served

    def test_a_configuration_of_the_users_counts_however_it_gets_rid_of_ours(self) -> None:
        """reload-logging: several recipes are in use against "basicConfig does nothing on Lambda"."""
        basic = "logging.basicConfig(level=logging.INFO, format='MINE %(levelname)s %(message)s', stream=sys.stdout"
        own = (
            "own = logging.StreamHandler(sys.stdout)\n"
            "own.setFormatter(logging.Formatter('MINE %(levelname)s %(message)s'))"
        )
        recipes = {
            "reload": f"from importlib import reload\nreload(logging)\n{basic})",
            "import again": f"del sys.modules['logging']\nimport logging\n{basic})",
            "force": f"{basic}, force=True)",
            "no handlers": f"logging.root.handlers = []\n{basic})",
            "remove each": f"for one in list(logging.root.handlers): logging.root.removeHandler(one)\n{basic})",
            "another handler in its place": f"{own}\nlogging.root.handlers[0] = own\nlogging.root.setLevel('INFO')",
            "its formatter": "logging.root.setLevel('INFO')\nlogging.root.handlers[0].setFormatter("
            "logging.Formatter('MINE %(levelname)s %(message)s\\n'))",
            "dictConfig": "import logging.config\nlogging.config.dictConfig({'version': 1, "
            "'formatters': {'mine': {'format': 'MINE %(levelname)s %(message)s'}}, 'handlers': {'out': {"
            "'class': 'logging.StreamHandler', 'stream': 'ext://sys.stdout', 'formatter': 'mine'}}, "
            "'root': {'handlers': ['out'], 'level': 'INFO'}})",
        }
        for name, recipe in recipes.items():
            with self.subTest(name):
                served = self.log_of(recipe, "logging.info('one')", "logging.getLogger('a.b').warning('two')")
                self.assertEqual(self.lines(served.stdout), ["MINE INFO one", "MINE WARNING two"])

    def test_the_time_is_what_the_users_converter_says(self) -> None:
        """log-converter-local-time, log-converter-own: for all formatters, or for ours alone."""
        own = "lambda *seconds: time.struct_time((2001, 2, 3, 4, 5, 6, 5, 34, -1))"
        for target in ("logging.Formatter", "logging.getLogger().handlers[0].formatter"):
            with self.subTest(target, converter="own"):
                served = self.log_of(f"{target}.converter = {own}", "logging.getLogger().warning('then')")
                self.assertRegex(served.stdout, rf"^\[WARNING\]\t2001-02-03T04:05:06\.\d{{3}}Z\t{REQUEST_ID}\tthen\n$")
            with self.subTest(target, converter="local time"):
                # The record's own clock is given, so the local time of a fixed moment is what to expect.
                served = self.log_of(
                    f"{target}.converter = time.localtime\n"
                    "moment = {'created': 1_000_000_000, 'msecs': 250, 'levelno': 30, 'msg': 'x'}",
                    "logging.root.handle(logging.makeLogRecord(moment))",
                    env={"TZ": "JST-9"},
                )
                self.assertEqual(served.stdout.split("\t")[1], "2001-09-09T10:46:40.250Z")

    def test_the_formatter_can_be_changed_in_place(self) -> None:
        """log-datefmt, log-format-in-place: people change the formatter that is there; a new one would lose frames."""
        formatter = "formatter = logging.getLogger().handlers[0].formatter"
        rows = {
            "formatter.datefmt = 'day %d'": r"\[WARNING\]\tday \d\d\.\d{3}Z\t" + REQUEST_ID + r"\tfrom a\n",
            "formatter._style._fmt = formatter._fmt = '%(levelname)s %(name)s %(message)s\\n'": r"WARNING a from a\n",
            "formatter._style = logging.StrFormatStyle('{name}: {message}\\n')": r"a: from a\n",
            "formatter.formatMessage = lambda record: record.getMessage().upper() + '\\n'": r"FROM A\n",
            "formatter.format = lambda record: 'whole ' + record.msg + '\\n'": r"whole from a\n",
            "formatter.formatTime = lambda record, datefmt=None: 'noon'": r"\[WARNING\]\tnoon\.\d{3}Z\t.*\tfrom a\n",
        }
        for change, expected in rows.items():
            with self.subTest(change):
                served = self.log_of(f"{formatter}\n{change}", "logging.getLogger('a').warning('from a')")
                self.assertRegex(served.stdout, f"^{expected}$")

    def test_exceptions_are_written_as_the_users_formatter_wants(self) -> None:
        """log-format-in-place: its nearest relative is formatException, to have tracebacks on one line."""
        change = "logging.root.handlers[0].formatter.formatException = lambda info: 'in short: ' + repr(info[1])"
        served = self.log_of(change, "logging.error('bad', exc_info=ValueError('x'))")
        self.assertIn("bad\nin short: ValueError('x')", served.stdout)

    def test_the_formatter_is_one_of_loggings_own(self) -> None:
        """log-format-in-place: libraries read _fmt and datefmt, wrap the formatter, and use it for other handlers."""
        self.app("""
            import copy, io, logging
            formatter = logging.getLogger().handlers[0].formatter
            out = io.StringIO()
            second = logging.StreamHandler(out)
            second.setFormatter(copy.copy(formatter))
            second.addFilter(logging.getLogger().handlers[0].filters[0])
            logging.getLogger("second").addHandler(second)
            def handler(event, context):
                logging.getLogger("second").warning("twice")
                return [isinstance(formatter, logging.Formatter), formatter._fmt, formatter.datefmt, out.getvalue()]
        """)
        served = self.serve(event())
        ((is_formatter, layout, dates, second),) = self.results(served)
        self.assertTrue(is_formatter)
        self.assertIn("%(aws_request_id)s", layout)
        self.assertEqual(dates, "%Y-%m-%dT%H:%M:%S")
        self.assertEqual(second.strip(), served.stdout.strip())

    def test_the_filter_of_our_handler_serves_the_users_too(self) -> None:
        """log-filter-copied: an own handler gets the request id by it, and the tenant; so does a queue's."""
        layout = "%(aws_request_id)s %(tenant_id)s %(message)s"
        self.app(f"""
            import io, logging, logging.handlers, queue
            out, waiting = io.StringIO(), queue.Queue()
            own, queued = logging.StreamHandler(out), logging.handlers.QueueHandler(waiting)
            own.setFormatter(logging.Formatter({layout!r}))
            queued.setFormatter(logging.Formatter({layout!r}))
            audit = logging.getLogger("audit")
            audit.propagate = False
            for handler in (own, queued):
                for one in logging.getLogger().handlers[0].filters: handler.addFilter(one)
                audit.addHandler(handler)
            def handler(event, context):
                audit.warning("seen")
                return [out.getvalue(), waiting.get().msg]
        """)
        for env in ({}, JSON):
            with self.subTest(env=env):
                served = self.serve(event(headers={"Lambda-Runtime-Aws-Tenant-Id": "blue"}), event(), env=env)
                lines = [f"{REQUEST_ID} blue seen", f"{REQUEST_ID} None seen"]
                first, second = self.results(served)
                self.assertEqual([first[0], second[0]], [f"{lines[0]}\n", f"{lines[0]}\n{lines[1]}\n"])
                self.assertEqual([first[1], second[1]], lines)

    def test_a_filter_of_the_users_changes_what_is_written(self) -> None:
        """log-filter-copied: the usual use of a filter on our handler is to hide secrets."""
        setup = (
            "def hide(record):\n    record.msg = str(record.msg).replace('s3cr3t', '***')\n    return True\n"
            "logging.getLogger().handlers[0].addFilter(hide)"
        )
        for env in ({}, JSON):
            with self.subTest(env=env):
                log = self.log_of(setup, "logging.error('it is s3cr3t')", env=env).stdout
                self.assertIn("it is ***", log)
                self.assertNotIn("s3cr3t", log)

    def test_levels_of_ones_own(self) -> None:
        """log-level-names-json, log-level-types-framed: TRACE below DEBUG, NOTICE between INFO and WARNING."""
        levels = {1: "NOTSET", 5: "NOTSET", 10: "DEBUG", 19: "DEBUG", 25: "INFO", 30: "WARNING", 50: "CRITICAL",
                  70: "CRITICAL"}  # fmt: skip
        codes = {"NOTSET": 0x02, "DEBUG": 0x0A, "INFO": 0x0E, "WARNING": 0x12, "CRITICAL": 0x1A}
        setup = "log = logging.getLogger('lib')\nlog.setLevel(1)\nlogging.addLevelName(25, 'NOTICE')"
        statement = f"[log.log(level, 'at %d', level) for level in {list(levels)}]"
        served = self.log_of(setup, statement, env=JSON)
        records = [json.loads(line) for line in self.lines(served.stdout)]
        self.assertEqual({int(one["message"][3:]): one["level"] for one in records}, levels)

        served = self.log_of(setup, statement, env=JSON, framed=True)
        found = {json.loads(one.message)["message"]: one.type - 0xA55A0000 for one in frames(served.done.log)}
        self.assertEqual(found, {f"at {level}": codes[name] for level, name in levels.items()})

        served = self.log_of(setup, statement, env={"AWS_LAMBDA_LOG_LEVEL": "TRACE"}, framed=True)
        found = {
            one.message.decode().rpartition("\t")[2].strip(): one.type - 0xA55A0000 for one in frames(served.done.log)
        }
        self.assertEqual(found, {f"at {level}": codes[name] + 1 for level, name in levels.items()})

    def test_messages_with_and_without_arguments_as_json(self) -> None:
        """log-json-dict-with-arguments: a dict stays a dict only while there is nothing to put into it."""
        rows: dict[str, object] = {
            "logging.error({'a': '%s'}, 1)": "{'a': 1}",
            "logging.error({'a': 1})": {"a": 1},
            "logging.error('%(a)s', {'a': 1})": "1",
            "logging.error('%s and %s', 'a', {'b': 1})": "a and {'b': 1}",
            "logging.error('100%')": "100%",
            "logging.error(ValueError('x'))": "x",
            "logging.error(['%s'], 1)": "[1]",
        }
        served = self.log_of("", *rows, env=JSON)
        records = [json.loads(line)["message"] for line in self.lines(served.stdout)]
        expected = ["['1']" if text == "[1]" else text for text in rows.values()]
        expected[0] = "{'a': '1'}"
        self.assertEqual(records, expected)


class CausesOfErrors(RuntimeTestCase):
    """An uncaught error is logged with what led to it, in one record; what is sent to Lambda stays as it is."""

    SOURCE = """
        class NotFound(Exception): pass

        def load(key):
            return {}[key]

        def fail(how):
            if how == "plain": raise ValueError("no cause")
            if how == "group": raise ExceptionGroup("several", [KeyError("order-4711"), ValueError("second")])
            try:
                load("order-4711")
            except KeyError as error:
                if how == "cause": raise NotFound("no such order") from error
                if how == "context": raise NotFound("no such order")
                if how == "none": raise NotFound("no such order") from None
                if how == "twice":
                    try:
                        raise NotFound("no such order") from error
                    except NotFound as second:
                        raise RuntimeError("the page fails") from second
                if how == "note":
                    found = NotFound("no such order")
                    found.add_note("in file orders.csv, line 7")
                    raise found from None

        def handler(event, context):
            fail(event)

        def stream(event, context):
            yield "part"
            fail(event)
        """
    WORDS = {
        "plain": ["ValueError: no cause"],
        "cause": ["NotFound: no such order", "KeyError: 'order-4711'", "in load"],
        "context": ["NotFound: no such order", "KeyError: 'order-4711'", "in load"],
        "none": ["NotFound: no such order"],
        "twice": ["RuntimeError: the page fails", "NotFound: no such order", "KeyError: 'order-4711'", "in load"],
        "note": ["NotFound: no such order", "in file orders.csv, line 7"],
        "group": ["ExceptionGroup: several", "KeyError: 'order-4711'", "ValueError: second"],
    }

    def check(self, records: list[str], kinds: list[str], apart: bool = False) -> None:
        """`apart`: type and message of an error may stand in different fields."""
        self.assertEqual(len(records), len(kinds), records)
        for record, how in zip(records, kinds):
            for words in (part for one in self.WORDS[how] for part in (one.split(": ") if apart else [one])):
                with self.subTest(how, words=words):
                    self.assertIn(words, record.replace("\N{NO-BREAK SPACE}", " "))
            if how in ("plain", "none"):
                with self.subTest(how):
                    self.assertNotIn("order-4711", record, "there is no cause, or it is not to be shown")

    def test_the_log_shows_them(self) -> None:
        """chained-exception-text, chained-exception-json, exception-notes-text: in all formats, also of a stream."""
        kinds = [how for how in self.WORDS if sys.version_info >= (3, 11) or how not in ("note", "group")]
        self.app(self.SOURCE)
        happened = [event(json.dumps(how).encode()) for how in kinds]
        for handler in ("app.handler", "app.stream"):
            with self.subTest(handler, form="text"):
                self.check(self.lines(self.serve(*happened, handler=handler).stdout), kinds)
            with self.subTest(handler, form="JSON"):
                lines = self.lines(self.serve(*happened, handler=handler, env=JSON).stdout)
                for line, how in zip(lines, kinds):
                    names = {"timestamp", "level", "errorType", "errorMessage", "stackTrace", "requestId"}
                    more = {"traceback"} if how not in ("plain", "none") else set()  # if there is more to tell
                    self.assertEqual(set(json.loads(line)), names | more, how)
                self.check(["\n".join(strings(json.loads(line))) for line in lines], kinds, apart=True)
            with self.subTest(handler, form="frames"):
                log = self.serve(*happened, handler=handler, framed=True).done.log
                self.check([one.message.decode() for one in frames(log)], kinds)

    def test_the_log_of_a_failing_import_shows_them(self) -> None:
        """chained-exception-text: a configuration error at import, which wraps the KeyError of os.environ."""
        self.app("""
            import os
            try:
                os.environ["DATABASE"]
            except KeyError as error:
                raise RuntimeError("configure me") from error
        """)
        (line,) = self.lines(self.serve().stdout)
        self.assertIn("RuntimeError: configure me", line)
        self.assertIn("KeyError: 'DATABASE'", line)

    def test_the_report_to_lambda_is_of_the_last_error_alone(self) -> None:
        """chained-exception-text: its stackTrace and X-Ray cause hold the frames of what was raised."""
        self.app(self.SOURCE)
        (plain, chained) = self.serve(event(b'"plain"'), event(b'"cause"')).answers
        for request, (kind, message) in zip(
            (plain, chained), (("ValueError", "no cause"), ("NotFound", "no such order"))
        ):
            report = json.loads(request.body)
            self.assertEqual((report["errorType"], report["errorMessage"]), (kind, message))
            self.assertEqual([re.findall(r"in (\w+)", one)[0] for one in report["stackTrace"]], ["handler", "fail"])
            self.assertNotIn("order-4711", request.body.decode())


def strings(value: Any) -> list[str]:
    """All the text within a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    return [text for one in value for text in strings(one)] if isinstance(value, list) else [str(value)]


class Secrets(RuntimeTestCase):
    """Libraries that print the variables of a stack must not find the environment in the runtime's frames."""

    ENV = {"DATABASE_URL": "s3cr3t-value"}
    LOOK = """
        import linecache, re, sys
        def look():
            "What a tool can print of each frame above: its variables, and the values of the names in its line."
            frame, seen, count = sys._getframe(1), [], 0
            while frame is not None:
                count += 1
                seen += [repr(value) for value in frame.f_locals.values()]
                line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
                for name in re.findall(r"[A-Za-z_][\\w.]*", line):
                    try: seen.append(repr(eval(name, frame.f_globals, frame.f_locals)))
                    except Exception: pass
                frame = frame.f_back
            return count, any("s3cr3t" in text for text in seen)
        """

    def test_no_frame_above_the_user_shows_the_environment(self) -> None:
        """loguru-defaults-show-no-secrets: loguru, rich, pytest and error trackers do it alike."""
        handlers = {
            "plain": "def handler(event, context): return look()",
            "async": "async def handler(event, context): return look()",
            "stream": "def handler(event, context):\n    import json\n    yield json.dumps(look())",
            "async stream": "async def handler(event, context):\n    import json\n    yield json.dumps(look())",
            "import": "found = look()\ndef handler(event, context): return found",
        }
        for mode in ({}, {"AWS_LAMBDA_MAX_CONCURRENCY": "1"}):
            for name, source in handlers.items():
                with self.subTest(name, mode=mode):
                    self.write("app.py", f"from finder import look\n{source}\n")
                    self.write("finder.py", self.LOOK)
                    (request,) = self.serve(event(), env={**self.ENV, **mode}).answers
                    frames_above, shown = json.loads(request.body)
                    self.assertFalse(shown)
                    if name == "plain" and not mode:
                        self.assertLess(frames_above, 8)

    @unittest.skipUnless(importlib.util.find_spec("loguru"), "loguru is not installed; .ci/run does that")
    def test_loguru_at_its_defaults(self) -> None:
        """loguru-defaults-show-no-secrets: with diagnose=True, and with an exception that loguru catches itself."""
        self.app("""
            from loguru import logger
            @logger.catch
            def caught(): return {}["k"]
            def handler(event, context):
                try: return {}["k"]
                except KeyError: logger.exception("not there")
                caught()
                return 1
        """)
        served = self.serve(event(), env={**self.ENV, "PYTHONPATH": where("loguru")}, tracebacks=True)
        self.assertEqual(self.results(served), [1])
        self.assertEqual(served.stderr.count("KeyError: 'k'"), 2)
        self.assertNotIn("s3cr3t", served.stderr + served.stdout)


class Output(RuntimeTestCase):
    """Printed text is out as it is written: a process that is killed loses nothing, and the order is what was done."""

    def test_half_a_line_is_out_before_the_process_is_killed(self) -> None:
        """partial-line-then-killed-stdout, partial-line-then-killed-stderr: progress, then a time-out."""
        text = "step 1 ... "
        writes = {
            "print": f"print({text!r}, end='', file=stream)",
            "write": f"stream.write({text!r})",
            "writelines": "stream.writelines(['step 1 ', '... '])",
            "a logging handler": "h = logging.StreamHandler(stream); h.terminator = ''; "
            f"h.emit(logging.makeLogRecord({{'msg': {text!r}}}))",
            "a thread": f"t = threading.Thread(target=stream.write, args=({text!r},)); t.start(); t.join()",
            "redirected": f"import contextlib\n    with contextlib.redirect_stdout(stream): print({text!r}, end='')",
        }
        ends = {"os.kill(os.getpid(), 9)": -signal.SIGKILL, "os._exit(3)": 3}
        for name, write in writes.items():
            for stream in ("stdout", "stderr"):
                for end, status in ends.items() if name == "print" else list(ends.items())[:1]:
                    with self.subTest(name, stream=stream, end=end):
                        self.app(
                            "import logging, os, sys, threading\ndef handler(event, context):\n"
                            f"    stream = sys.{stream}\n    {write}\n    {end}\n"
                        )
                        served = self.serve(event())
                        self.assertEqual(served.done.status, status)
                        self.assertEqual(getattr(served, stream), text)

    def test_half_a_line_is_out_while_the_handler_works_on(self) -> None:
        """partial-line-then-killed-stdout: whoever watches the log of a slow function sees its progress at once."""
        source = self.until_told() + "def handler(event, context):\n    print('.', end='')\n    until_told()\n"
        with self.running(source) as function:
            function.send(an_event(1))
            function.wait(lambda: function.log == ".")
            self.tell()
            function.answers(1)

    def test_a_child_process_has_nothing_of_ours_to_write_again(self) -> None:
        """partial-line-and-fork, partial-line-and-processes: what is not yet written would be copied by fork."""
        rows = {
            "fork": "pid = os.fork()\n    if not pid:\n        sys.stdout.flush()\n        os._exit(0)\n"
            "    os.waitpid(pid, 0)",
            "fork, and an ordinary end": "pid = os.fork()\n    if not pid: sys.exit(0)\n    os.waitpid(pid, 0)",
            "processes": "for n in range(2):\n        one = fork.Process(target=print, args=('child', n))\n"
            "        one.start()\n        one.join()",
            "a pool": "pool = fork.Pool(1)\n    pool.map(print, ['child 0', 'child 1'])\n"
            "    pool.close()\n    pool.join()",
        }
        for name, code in rows.items():
            with self.subTest(name):
                self.app(
                    "import multiprocessing, os, sys\nfork = multiprocessing.get_context('fork')\n"
                    f"def handler(event, context):\n    print('squares: ', end='')\n    {code}\n    print('done')\n"
                )
                children = "child 0\nchild 1\n" if "fork" not in name else ""
                self.assertEqual(self.serve(event()).stdout, f"squares: {children}done\n")

    def test_all_writers_are_in_order(self) -> None:
        """partial-line-before-child-stdout, original-stdout-in-order: prints, children, C code, the original stream."""
        self.app("""
            import logging, os, subprocess, sys
            def handler(event, context):
                print("a ", end="")
                subprocess.run("printf 'b '", shell=True)
                sys.__stdout__.write("c ")
                os.write(1, b"d ")
                sys.stdout.write("e ")
                os.system("printf 'f '")
                print("g", file=sys.__stdout__)
                logging.getLogger().error("h")
                context.log("i ")
                subprocess.run(["printf", "j "], stdout=sys.stdout)
                print("k")
        """)
        lines = self.lines(self.serve(event()).stdout)
        self.assertEqual(lines, ["a b c d e f g", f"[ERROR]\t<time>\t{REQUEST_ID}\th", "i j k"])

    def test_standard_error_is_in_order_too(self) -> None:
        """partial-line-before-child-stdout, on the other stream."""
        self.app("""
            import os, subprocess, sys
            def handler(event, context):
                print("a ", end="", file=sys.stderr)
                subprocess.run("printf 'b ' >&2", shell=True)
                sys.__stderr__.write("c ")
                os.write(2, b"d ")
                print("e", file=sys.stderr)
        """)
        self.assertEqual(self.serve(event()).stderr, "a b c d e\n")

    def test_the_original_stream_is_the_same_one(self) -> None:
        """original-stdout-before-answer: a library writes there, and the environment is killed while it is idle."""
        self.app("""
            import sys
            def handler(event, context):
                sys.__stdout__.write(f"{event} by the original\\n")
                print(event, "printed")
                return sys.stdout is sys.__stdout__
        """)
        served = self.serve(event(b"1"), event(b"2"))
        self.assertEqual(self.results(served), [True, True])
        self.assertEqual(
            self.lines(served.stdout), ["1 by the original", "1 printed", "2 by the original", "2 printed"]
        )


if __name__ == "__main__":
    unittest.main()
