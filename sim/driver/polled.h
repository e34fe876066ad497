// Work of another simulated library in a stream: what the CPU NCCL enqueues where the real one launches a kernel. Exported by
// libcuda.so.1 beside the driver's own functions.
#ifndef DIME_SIM_DRIVER_POLLED_H
#define DIME_SIM_DRIVER_POLLED_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dimeSimPolled {
  // Called once for each execution when it is launched, on the host's thread: as the work is enqueued, or for captured work
  // whenever a graph with it is launched, in the order of the capture. So calls come in the order in which the host launches,
  // whatever the streams are. Must not call the driver.
  void (*launched)(void *data);
  // Called again and again, on the device's own thread, once the stream has come to this work; never blocks. `restart` is 1 on
  // the first call of each execution (a graph runs it once per replay). Returns 1 when the work is over, 0 to be called again.
  int (*poll)(void *data, int restart);
  // Called once, when the work is over and will never run again (a captured one: the graph and all made of it are gone).
  void (*destroy)(void *data);
  void *data;
} dimeSimPolled;

// Appends it to `stream` (a CUstream of the current context; NULL is the default stream), or to the capture the stream is in.
// Returns a CUresult.
int dimeSimLaunchPolled(void *stream, const dimeSimPolled *work);

#ifdef __cplusplus
}
#endif
#endif
