/* The fake that calls public functions of its own while it is inside one of them, as every NCCL release does.
 *
 * The calls go through the procedure linkage table: in a process where another library stands in front of this one
 * they arrive there first. Inside ncclAllGather the calls come from the same thread, inside ncclCommFinalize from a
 * thread that the fake starts (and waits for, so a lock held around the forwarded call would hang here). */
#include "recorder.h"

#include <pthread.h>
#include <string.h>

int ncclGroupStart(void);
int ncclGroupEnd(void);
int ncclGetVersion(void *version);
int ncclGetUniqueId(void *id);
const char *ncclGetErrorString(int result);
int ncclCommGetAsyncError(void *comm, void *result);
int ncclBroadcast(void *sendbuff, void *recvbuff, size_t count, int datatype, int root, void *comm, void *stream);
int ncclMemAlloc(void **pointer, size_t size);
int ncclMemFree(void *pointer);
int ncclCommRegister(void *comm, void *buff, size_t size, void **handle);
int ncclCommDeregister(void *comm, void *handle);
int ncclCommWindowDeregister(void *comm, void *win);
struct by_value_team ncclTeamWorld(void *comm);
struct by_value_team ncclTeamLsa(void *comm);
int ncclTeamRankToWorld(void *comm, struct by_value_team team, int rank);
int ncclDevCommDestroy(void *comm, void *dev_comm);
void ncclResetDebugInitInternal(void);

/* How many of its own calls did not come back as they should. The driver reads it. */
int fake_own_call_failures;
int fake_own_call_count;

/* Where a call of the fake to a function of its own goes. */
void *fake_own_call_address(void) {
    return (void *)ncclGetVersion;
}

static void expect(int right) {
    fake_own_call_count++;
    if (!right) fake_own_call_failures++;
}

static void *call_all(void *programmed) {
    int number = *(int *)programmed;
    char place[256];
    int version = 0;
    struct by_value_team team;
    expect(ncclGroupStart() == number);
    expect(ncclGetVersion(&version) == number && version != 0);
    expect(ncclGetUniqueId(place) == number);
    expect(strcmp(ncclGetErrorString(3), "the fake's ncclGetErrorString") == 0);
    expect(ncclCommGetAsyncError(place, place) == number);
    expect(ncclBroadcast(place, place, 3, 7, 0, place, NULL) == number);
    expect(ncclMemAlloc((void **)place, 64) == number);
    expect(ncclMemFree(place) == number);
    expect(ncclCommRegister(place, place, 64, (void **)place) == number);
    expect(ncclCommDeregister(place, place) == number);
    expect(ncclCommWindowDeregister(place, place) == number);
    team = ncclTeamWorld(place);
    expect(team.rank_count == number && team.rank == number + 1 && team.stride == number + 2);
    team = ncclTeamLsa(place);
    expect(team.rank_count == number && team.rank == number + 1 && team.stride == number + 2);
    expect(ncclTeamRankToWorld(place, team, 1) == number);
    expect(ncclDevCommDestroy(place, place) == number);
    ncclResetDebugInitInternal();
    expect(ncclGroupEnd() == number);
    return NULL;
}

void fake_own_calls(const char *function) {
    int number = fake_returned();
    if (strcmp(function, "ncclAllGather") == 0) {
        call_all(&number);
    } else if (strcmp(function, "ncclCommFinalize") == 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, call_all, &number) != 0) {
            fake_own_call_failures++;
            return;
        }
        pthread_join(thread, NULL);
    }
}
