#include "threads.h"

#include <pthread.h>
#include <signal.h>

#include <thread>

namespace sim {

namespace {

thread_local bool runs_callback = false;

}  // namespace

void start_thread(const char *name, std::function<void()> work) {
  // Faults of the thread itself stay as they are.
  sigset_t blocked, before;
  sigfillset(&blocked);
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&blocked, signal);
  pthread_sigmask(SIG_BLOCK, &blocked, &before);
  std::thread thread(std::move(work));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(thread.native_handle(), name);
  thread.detach();
}

void start_callback(std::function<void()> work) {
  start_thread("dime-sim-call", [work = std::move(work)] {
    runs_callback = true;
    work();
  });
}

bool is_callback() { return runs_callback; }

}  // namespace sim
