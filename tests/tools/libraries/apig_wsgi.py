# SPDX-License-Identifier: MIT-0
"""Flask behind it: a route, its logger, a route that fails, of which Flask writes the traceback."""

import logging

from apig_wsgi import make_lambda_handler
from flask import Flask, request

app = Flask(__name__)
app.logger.setLevel(logging.INFO)


@app.get("/hello")
def hello():
    app.logger.info("at work")
    return {"hello": request.args.get("name", "world"), "agent": request.user_agent.string}


@app.get("/fail")
def fail():
    raise ValueError("on purpose")


handler = make_lambda_handler(app)
