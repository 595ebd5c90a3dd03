// SystemC (libsystemc-dev): ./systemc hold|pingpong|pingtime|procs|wake N OPERATIONS
#define SC_INCLUDE_DYNAMIC_PROCESSES
#include "timing.hpp"
#include <algorithm>
#include <cstdlib>
#include <string>
#include <systemc>
#include <unistd.h>

using namespace sc_core;

static long wanted = 0, done = 0, warmUp = 0, drawn = 0;
static double start = 0;

// Counts an operation; starts the clock after the warm-up.
static inline bool tick() {
  if (++done == warmUp) start = cpuSeconds();
  if (done < warmUp + wanted) return true;
  sc_stop();
  return false;
}

static inline sc_time increment() { return sc_time::from_value((sc_dt::uint64)increments[drawn++ & 65535]); }

struct Top : sc_module {
  SC_HAS_PROCESS(Top);
  long n;
  long woken = 0;
  sc_event ping, pong, all, again;

  Top(sc_module_name name, const std::string &which, long count) : sc_module(name), n(count) {
    sc_spawn_options method, thread;
    method.spawn_method();
    thread.set_stack_size(16384);
    if (which == "hold") hold(method);
    if (which == "pingpong") players(thread, SC_ZERO_TIME);
    if (which == "pingtime") players(thread, sc_time::from_value(1));
    if (which == "procs") sleepers(thread);
    if (which == "wake") waiters(thread);
  }

  void hold(sc_spawn_options &method) {
    for (long i = 0; i < n; i++) {
      sc_spawn([this] { if (tick()) next_trigger(increment()); }, sc_gen_unique_name("m"), &method);
    }
  }

  void players(sc_spawn_options &thread, sc_time later) {
    sc_spawn([this, later] { for (;;) { pong.notify(later); wait(ping); if (!tick()) return; } }, "a", &thread);
    sc_spawn([this, later] { for (;;) { wait(pong); if (!tick()) return; ping.notify(later); } }, "b", &thread);
  }

  void sleepers(sc_spawn_options &thread) {
    for (long i = 0; i < n; i++) {
      sc_spawn([this] { for (;;) { wait(increment()); if (!tick()) return; } }, sc_gen_unique_name("p"), &thread);
    }
  }

  void waiters(sc_spawn_options &thread) {
    auto body = [this] {
      for (;;) {
        wait(all);
        if (!tick()) return;
        if (++woken == n) { woken = 0; again.notify(SC_ZERO_TIME); }
      }
    };
    for (long i = 0; i < n; i++) sc_spawn(body, sc_gen_unique_name("w"), &thread);
    sc_spawn([this] { for (;;) { wait(sc_time::from_value(1)); all.notify(); wait(again); } }, "waker", &thread);
  }
};

int sc_main(int argc, char **argv) {
  if (argc != 4) return 2;
  sc_report_handler::set_actions(SC_INFO, SC_DO_NOTHING);
  sc_report_handler::set_actions(SC_WARNING, SC_DO_NOTHING);
  fillIncrements();
  const long n = atol(argv[2]);
  wanted = atol(argv[3]);
  warmUp = std::max(200000L, n);
  sc_set_time_resolution(1, SC_PS);
  Top top("top", argv[1], n);
  sc_start();
  report(wanted / (cpuSeconds() - start));
  _exit(0);
}
