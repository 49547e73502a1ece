#!/usr/bin/env python3
"""A framework for clusterd (or any Mesos v1 master) in plain Python.

It launches a few command tasks, follows them, and ends when all have finished.
Nothing but the standard library is needed:

    python3 framework.py --master 127.0.0.1:5050 --tasks 3 -- echo hello

Exit code 0 if every task finished, 1 if one failed, 2 if the master refused us.
"""

import argparse
import getpass
import http.client
import json
import sys
from urllib.parse import urlsplit

API = "/api/v1/scheduler"
TERMINAL = {
    "TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST",
    "TASK_DROPPED", "TASK_GONE", "TASK_GONE_BY_OPERATOR",
}


class Refused(Exception):
    """The master answered a call with an error."""


class Scheduler:
    """The two halves of the scheduler API: one long stream, many short calls."""

    def __init__(self, master):
        self.master = master
        self.framework_id = None
        self.stream_id = None

    def subscribe(self, name, role):
        """Subscribe and yield events, one dict each, until the stream ends."""
        response = self._post({
            "type": "SUBSCRIBE",
            "subscribe": {"framework_info": {
                "user": getpass.getuser(),
                "name": name,
                "roles": [role],
                "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"},
                                 {"type": "RESERVATION_REFINEMENT"}],
            }},
        })
        self.stream_id = response.headers["Mesos-Stream-Id"]
        while True:
            # RecordIO: the record's length in decimal, a newline, the record.
            length = response.readline()
            if not length:
                return
            event = json.loads(response.read(int(length)))
            if event["type"] == "SUBSCRIBED":
                self.framework_id = event["subscribed"]["framework_id"]
            yield event

    def call(self, type_, **fields):
        """Send any other call; the master answers 202 and nothing else."""
        self._post({"type": type_, "framework_id": self.framework_id, **fields}).read()

    def _post(self, call):
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.stream_id:
            headers["Mesos-Stream-Id"] = self.stream_id
        for _ in range(5):
            connection = http.client.HTTPConnection(self.master)
            connection.request("POST", API, json.dumps(call), headers)
            response = connection.getresponse()
            if response.status == 307:  # another master leads: //host:port/path
                self.master = urlsplit(response.headers["Location"]).netloc
                continue
            if response.status not in (200, 202):
                raise Refused(f"{response.status}: {response.read().decode()}")
            return response
        raise Refused("too many redirects")


def scalar(resources, name):
    """The amount of a scalar resource in an offer."""
    return sum(r["scalar"]["value"] for r in resources if r["name"] == name and "scalar" in r)


def resource(name, value, role):
    return {"name": name, "type": "SCALAR", "scalar": {"value": value},
            "allocation_info": {"role": role}}


def run(options):
    scheduler = Scheduler(options.master)
    waiting = [f"task-{i}" for i in range(options.tasks)]
    failed, ended = 0, set()

    for event in scheduler.subscribe("python-example", options.role):
        if event["type"] == "SUBSCRIBED":
            print("subscribed as", scheduler.framework_id["value"], flush=True)

        elif event["type"] == "OFFERS":
            for offer in event["offers"]["offers"]:
                cpus, mem = scalar(offer["resources"], "cpus"), scalar(offer["resources"], "mem")
                tasks = []
                while waiting and cpus >= options.cpus and mem >= options.mem:
                    task_id = waiting.pop(0)
                    cpus, mem = cpus - options.cpus, mem - options.mem
                    tasks.append({
                        "name": task_id,
                        "task_id": {"value": task_id},
                        "agent_id": offer["agent_id"],
                        "resources": [resource("cpus", options.cpus, options.role),
                                      resource("mem", options.mem, options.role)],
                        "command": {"shell": False, "value": options.command[0],
                                    "arguments": options.command},
                    })
                # An ACCEPT without operations declines the offer.
                operations = [{"type": "LAUNCH", "launch": {"task_infos": tasks}}] if tasks else []
                scheduler.call("ACCEPT", accept={
                    "offer_ids": [offer["id"]], "operations": operations,
                    "filters": {"refuse_seconds": 1.0 if waiting else 3600.0},
                })

        elif event["type"] == "UPDATE":
            status = event["update"]["status"]
            task_id, state = status["task_id"]["value"], status["state"]
            print(task_id, state, status.get("message", ""), flush=True)
            if "uuid" in status:  # without one there is nothing to acknowledge
                scheduler.call("ACKNOWLEDGE", acknowledge={
                    "agent_id": status["agent_id"], "task_id": status["task_id"],
                    "uuid": status["uuid"],
                })
            if state in TERMINAL and task_id not in ended:
                ended.add(task_id)
                failed += state != "TASK_FINISHED"
            if len(ended) == options.tasks:
                scheduler.call("TEARDOWN")
                return 1 if failed else 0

        elif event["type"] == "ERROR":
            raise Refused(event["error"]["message"])

    raise Refused("the master closed the stream")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--master", default="127.0.0.1:5050", help="host:port of a master")
    parser.add_argument("--role", default="examples", help="role to subscribe with")
    parser.add_argument("--tasks", type=int, default=3, help="how many tasks to run")
    parser.add_argument("--cpus", type=float, default=0.1, help="cpus of a task")
    parser.add_argument("--mem", type=float, default=32, help="memory of a task, MB")
    parser.add_argument("command", nargs="*", help="command and arguments of each task")
    options = parser.parse_args()
    options.command = options.command or ["echo", "hello"]
    try:
        return run(options)
    except (Refused, OSError) as e:
        print("framework:", e, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
