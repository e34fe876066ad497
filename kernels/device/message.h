// The application's buffers, loaded and stored by the packet. A buffer may have any alignment and any length.
// Whether a packet moves in one access depends on this rank's own pointers only, and never changes what is
// sent. So ranks may differ in it.
#ifndef DIME_KERNELS_DEVICE_MESSAGE_H
#define DIME_KERNELS_DEVICE_MESSAGE_H

#include <backend/grid.h>
#include "ordered.h"
#include "packet.h"

namespace dime {

// Bytes of the widest access that the alignment of `address` allows, at most a packet.
DIME_DEVICE uint32_t access_bytes(uint64_t address, uint32_t packet_bytes) {
  uint32_t low = uint32_t(address) & (0u - uint32_t(address));
  return low == 0 || low > packet_bytes ? packet_bytes : low;
}

DIME_DEVICE uint64_t load_piece(uint64_t address, uint32_t bytes) {
  switch (bytes) {
    case 1: return load_plain<uint8_t>(address);
    case 2: return load_plain<uint16_t>(address);
    case 4: return load_plain<uint32_t>(address);
    default: return load_plain<uint64_t>(address);
  }
}

DIME_DEVICE void store_piece(uint64_t address, uint64_t value, uint32_t bytes) {
  switch (bytes) {
    case 1: store_plain(address, uint8_t(value)); break;
    case 2: store_plain(address, uint16_t(value)); break;
    case 4: store_plain(address, uint32_t(value)); break;
    default: store_plain(address, value); break;
  }
}

// A buffer of `bytes` bytes as packets of W words. The last packet may be short: what it lacks loads as zero
// and is not stored.
template <int W>
class Message {
 public:
  static const uint32_t PACKET = 8u * W;

  // Where a packet lies. A kernel computes it before it waits for the packet's data: then the store after the
  // wait needs no launch argument, whose load would add to the latency of the last arrival.
  struct PacketAddress {
    uint64_t address;
    uint32_t is_whole;  // the packet is complete and aligned, so one access moves it
  };

  DIME_DEVICE Message(uint64_t address, uint64_t bytes)
      : address_(address), bytes_(bytes), access_(access_bytes(address, PACKET)) {}

  DIME_DEVICE Words<W> load(uint32_t packet) const {
    uint64_t at = uint64_t(packet) * PACKET;
    if (access_ == PACKET && at + PACKET <= bytes_) return load_whole(address_ + at);
    return load_pieces(at);
  }

  DIME_DEVICE PacketAddress locate(uint32_t packet) const {
    uint64_t at = uint64_t(packet) * PACKET;
    PacketAddress destination = {address_ + at, uint32_t(access_ == PACKET && at + PACKET <= bytes_)};
    compute_now(destination.address);
    compute_now(destination.is_whole);
    return destination;
  }

  // Stores `words` at `destination` if `condition` holds.
  DIME_DEVICE void store_if(bool condition, PacketAddress destination, Words<W> words) const {
    if (condition && destination.is_whole)
      store_whole(destination.address, words);
    else if (condition)
      store_pieces(destination.address - address_, words);
  }

  DIME_DEVICE void store(uint32_t packet, Words<W> words) const {
    uint64_t at = uint64_t(packet) * PACKET;
    if (access_ == PACKET && at + PACKET <= bytes_)
      store_whole(address_ + at, words);
    else
      store_pieces(at, words);
  }

 private:
  // Bytes of the accesses that move the packet at offset `at` when one access cannot. The element size
  // divides the message's length, so an access no larger than the lowest set bit of the length never crosses
  // the end.
  DIME_DEVICE uint32_t piece(uint64_t at) const {
    uint32_t wide = access_ < 8u ? access_ : 8u;
    if (at + PACKET <= bytes_) return wide;
    uint32_t tail = access_bytes(bytes_, 8u);
    return tail < wide ? tail : wide;
  }

  DIME_DEVICE Words<W> load_pieces(uint64_t at) const {
    Words<W> words = {};
    const uint32_t step = piece(at);
    const uint32_t left = at < bytes_ ? (bytes_ - at < PACKET ? uint32_t(bytes_ - at) : PACKET) : 0u;
#pragma unroll
    for (int w = 0; w < W; ++w) {
      uint64_t word = 0;
#pragma unroll 1
      for (uint32_t i = 0; i < 8u && 8u * w + i < left; i += step)
        word |= load_piece(address_ + at + 8u * w + i, step) << (8u * i);
      words.word[w] = word;
    }
    return words;
  }

  DIME_DEVICE void store_pieces(uint64_t at, Words<W> words) const {
    const uint32_t step = piece(at);
    const uint32_t left = at < bytes_ ? (bytes_ - at < PACKET ? uint32_t(bytes_ - at) : PACKET) : 0u;
#pragma unroll
    for (int w = 0; w < W; ++w) {
#pragma unroll 1
      for (uint32_t i = 0; i < 8u && 8u * w + i < left; i += step)
        store_piece(address_ + at + 8u * w + i, words.word[w] >> (8u * i), step);
    }
  }

  DIME_DEVICE static Words<1> load_whole_of(uint64_t address, Words<1> *) {
    Words<1> words = {{load_plain<uint64_t>(address)}};
    return words;
  }
  DIME_DEVICE static Words<2> load_whole_of(uint64_t address, Words<2> *) {
    Pair pair = load_plain_pair(address);
    Words<2> words = {{pair.lo, pair.hi}};
    return words;
  }
  DIME_DEVICE static Words<W> load_whole(uint64_t address) { return load_whole_of(address, (Words<W> *)0); }

  DIME_DEVICE static void store_whole(uint64_t address, Words<1> words) { store_plain(address, words.word[0]); }
  DIME_DEVICE static void store_whole(uint64_t address, Words<2> words) {
    Pair pair = {words.word[0], words.word[1]};
    store_plain_pair(address, pair);
  }

  uint64_t address_;
  uint64_t bytes_;
  uint32_t access_;
};

}  // namespace dime

#endif
