"""SimPy: simpy-bench.py hold|pingpong|pingtime|procs|wake N OPERATIONS"""

import json
import math
import sys
import time

import simpy


def increments():
    state = 0x12345678
    table = []
    for _ in range(65536):
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        table.append(float(math.ceil(-math.log((state + 0.5) / 4294967296.0) * 1e9)))
    return table


class Stop(Exception):
    pass


which, n, wanted = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
env = simpy.Environment()
table = increments()
drawn = done = 0
start = 0.0
warm_up = max(20000, min(n, 1000000))


def tick():
    global done, start
    done += 1
    if done == warm_up:
        start = time.process_time()
    if done >= warm_up + wanted:
        raise Stop


def increment():
    global drawn
    drawn += 1
    return table[drawn & 65535]


def hold():
    def callback(_):
        tick()
        env.timeout(increment()).callbacks.append(callback)

    for _ in range(n):
        env.timeout(increment()).callbacks.append(callback)


def procs():
    def body():
        while True:
            yield env.timeout(increment())
            tick()

    for _ in range(n):
        env.process(body())


def players(delay):
    events = [env.event(), env.event()]

    def body(me):
        while True:
            if me == 0:
                events[1].succeed()
            yield events[me]
            events[me] = env.event()
            if delay:
                yield env.timeout(delay)
            if me == 1:
                events[0].succeed()
            tick()

    env.process(body(0))
    env.process(body(1))


def wake():
    box = [env.event()]

    def body():
        while True:
            yield box[0]
            tick()

    def waker():
        while True:
            yield env.timeout(1)
            old, box[0] = box[0], env.event()
            old.succeed()

    for _ in range(n):
        env.process(body())
    env.process(waker())


{"hold": hold, "procs": procs, "pingpong": lambda: players(0), "pingtime": lambda: players(1), "wake": wake}[which]()
try:
    env.run()
except Stop:
    pass
print(json.dumps({"value": wanted / (time.process_time() - start)}))
