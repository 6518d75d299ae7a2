"""A pymodbus client that reads registers as fast as it can: pymodbus_reader.py PORT FUNCTION REGISTERS SECONDS.

The function is 3 (holding) or 4 (input). Prints one JSON object.
"""

import json
import resource
import sys
import time

from pymodbus.client import ModbusTcpClient

port, function, count, length = (*map(int, sys.argv[1:4]), float(sys.argv[4]))
client = ModbusTcpClient("127.0.0.1", port=port)
assert client.connect(), "nobody listens"
read = client.read_holding_registers if function == 3 else client.read_input_registers
before, begun, reads = resource.getrusage(resource.RUSAGE_SELF), time.monotonic(), 0
while time.monotonic() - begun < length:
    assert len(read(0, count=count, device_id=1).registers) == count
    reads += 1
after = resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
# Not ru_maxrss, which includes the program that started this one.
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
told = {"reads": reads, "seconds": time.monotonic() - begun, "cpu_us": cpu * 1e6, "peak_rss_kib": peak}
print(json.dumps(told))
