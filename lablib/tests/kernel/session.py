"""Drives notebook kernels over the Jupyter protocol for the tests: one JSON step a line in, one JSON answer a line out.

A step names a kernel by a label (the first use starts it) and says what to do with it:
  {"kernel": "a", "run": "let x = 1;"}        -> {"out": "...", "err": "...", "data": {...}, "failed": false}
  {"kernel": "a", "run": "...", "answers": ["30"]} -> {..., "prompts": [...]}   (a reader who types these lines, then empty ones)
  {"kernel": "a", "start": "loop {}"}         -> {}   (does not wait for the cell's end)
  {"kernel": "a", "complete": "ring."}        -> {"matches": [...]}
  {"kernel": "a", "pid": true}                -> {"pid": 123}
  {"kernel": "a", "kill": true}               -> {}   (SIGKILL, as the kernel's owner would not do)
"""
import json
import os
import queue
import signal
import sys

from jupyter_client.manager import start_new_kernel

TIMEOUT = 300
kernels = {}


def kernel(label):
    if label not in kernels:
        kernels[label] = start_new_kernel(kernel_name="rust", startup_timeout=TIMEOUT)
    return kernels[label]


def run(client, source, answers):
    answer = {"out": "", "err": "", "data": {}, "failed": False, "prompts": []}
    there = answers is not None

    def collect(message):
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            answer["out" if content["name"] == "stdout" else "err"] += content["text"]
        elif kind == "error":
            answer["failed"] = True
            answer["err"] += "\n".join([content.get("evalue") or "", *content.get("traceback", [])])
        elif kind in ("execute_result", "display_data"):
            answer["data"].update(content["data"])

    def type_in(message):
        answer["prompts"].append(message["content"]["prompt"])
        client.input(answers.pop(0) if answers else "")

    client.execute_interactive(source, output_hook=collect, allow_stdin=there, stdin_hook=type_in, timeout=TIMEOUT)
    # evcxr passes on what a cell prints in a thread of its own, on a busy machine after it has said that the cell is done.
    while "println!" in source and not answer["failed"] and not answer["out"].endswith("\n"):
        try:
            collect(client.get_iopub_msg(timeout=10))
        except queue.Empty:
            break
    return answer


def answer(step):
    manager, client = kernel(step["kernel"])
    if "run" in step:
        return run(client, step["run"], step.get("answers"))
    if "start" in step:
        client.execute(step["start"])
        return {}
    if "complete" in step:
        code = step["complete"]
        return {"matches": client.complete(code, len(code), reply=True, timeout=TIMEOUT)["content"]["matches"]}
    pid = manager.provisioner.process.pid
    if "kill" in step:
        os.kill(pid, signal.SIGKILL)
        manager.provisioner.process.wait()
        return {}
    return {"pid": pid}


try:
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
finally:
    # A test that failed may have left a kernel in any state: each is ended for itself, and by force.
    for manager, client in kernels.values():
        client.stop_channels()
        if manager.provisioner.process.poll() is None:
            manager.provisioner.process.kill()
