// Threads of the driver's own.
#ifndef DIME_SIM_DRIVER_THREADS_H
#define DIME_SIM_DRIVER_THREADS_H

#include <functional>

namespace sim {

// Runs `work` on a thread that nobody joins, and that takes no signals meant for the application.
void start_thread(const char *name, std::function<void()> work);

// The same for a function of the application. It may not call the driver.
void start_callback(std::function<void()> work);
bool is_callback();

}  // namespace sim

#endif
