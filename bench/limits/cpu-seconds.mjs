/** The clock of all benchmarks but `tutorial`: time that this process has had a processor. Others on the machine matter less. */
import process from 'node:process';

export function cpuSeconds() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}
