// std::priority_queue of {time, sequence, id}: ./queue hold N OPERATIONS
#include "timing.hpp"
#include <algorithm>
#include <cstdlib>
#include <queue>
#include <vector>

struct Event {
  double time;
  uint64_t sequence;
  uint32_t id;
};

struct Later {
  bool operator()(const Event &a, const Event &b) const {
    return a.time > b.time || (a.time == b.time && a.sequence > b.sequence);
  }
};

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  fillIncrements();
  const long pending = atol(argv[2]), operations = atol(argv[3]);
  std::priority_queue<Event, std::vector<Event>, Later> queue;
  uint64_t sequence = 0;
  long drawn = 0;
  for (long i = 0; i < pending; i++) queue.push({increments[drawn++ & 65535], sequence++, (uint32_t)i});
  auto run = [&](long count) {
    for (long i = 0; i < count; i++) {
      const Event event = queue.top();
      queue.pop();
      queue.push({event.time + increments[drawn++ & 65535], sequence++, event.id});
    }
  };
  run(std::max(200000L, pending));
  const double start = cpuSeconds();
  run(operations);
  report(operations / (cpuSeconds() - start));
}
