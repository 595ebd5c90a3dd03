// The same exponential table as bench/limits/exponential.mjs, the clock of bench/limits/cpu-seconds.mjs, and the line
// that is printed.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>

static double increments[65536];

static inline void fillIncrements() {
  uint32_t state = 0x12345678u;
  for (double &increment : increments) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    increment = std::ceil(-std::log((state + 0.5) / 4294967296.0) * 1e9);
  }
}

static inline double cpuSeconds() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return time.tv_sec + time.tv_nsec * 1e-9;
}

static inline void report(double operationsPerSecond) {
  std::printf("{\"value\":%.0f}\n", operationsPerSecond);
  std::fflush(stdout);
}
