/* SPDX-License-Identifier: MIT OR Apache-2.0
 * Written by tools/headers: do not edit. */
/* Stands in for NCCL's device code, which libdime.so does not have. A program that includes this file needs that code. */
#error "libdime.so has no device code of NCCL's. Either compile with Dime's nccl.h as it is by default (without DIME_NCCL_API): \
it is that of NCCL 2.27, with which programs leave out what needs nccl_device.h. Or compile with NVIDIA's nccl.h and nccl_device.h: \
such a program runs with libdime.so all the same. The host functions alone are in nccl_device_host.h."
