/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads of a block as fibers of Boost.Context, blocks one after another. A thread runs until it waits at a barrier
 * or a collective, or touches memory by an atomic; which goes on next is drawn from the seed. A fiber whose thread has
 * ended runs the next that has not begun, so that kernels without barriers are plain loops.
 *
 * Shared memory is ordered by two kinds of clocks: the block's epoch, which every __syncthreads() begins anew, and in
 * each thread a vector clock over its warp, which __syncwarp() joins. Shuffles and ballots order nothing, as on a GPU.
 */
#include "fibers.hpp"

#include <boost/context/fiber.hpp>
#include <boost/context/protected_fixedsize_stack.hpp>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace sl_fibers {

dim3 thread_index, block_index, block_size, grid_size;

namespace {

constexpr unsigned WARP = 32, MOST_THREADS = 1024;
constexpr size_t STACK = 128 * 1024;

struct abandoned {};

enum state { READY, AT_BLOCK, AT_WARP, DONE };

/* What the lanes of a collective gave; kept while one of them has not gone on to its next. */
struct exchange {
	unsigned users;
	unsigned char slots[WARP][SLOT];
};

struct worker {
	boost::context::fiber fiber, back;
	const void *stack = nullptr;
	size_t stack_bytes = 0;
	void *sanitizer = nullptr; /* its fake stack, or ThreadSanitizer's fiber */
};

struct thread {
	unsigned number = 0;
	dim3 index;
	sl_fibers::state state = DONE;
	worker *on = nullptr; /* NULL: it has not begun */
	const char *file = "";
	int line = 0;
	collective kind = SYNC_WARP;
	unsigned mask = 0;
	size_t bytes = 0;
	unsigned char given[SLOT];
	exchange *got = nullptr;
	uint32_t clock[WARP];
};

struct running {
	std::string kernel;
	const std::function<void()> *body = nullptr;
	std::vector<std::unique_ptr<thread>> threads; /* kept from launch to launch, as are the next two */
	std::vector<worker *> idle;
	std::vector<exchange *> exchanges;
	std::vector<unsigned> ready;
	unsigned count = 0, at_block = 0, done = 0;
	uint32_t epoch = 0;
	uint64_t block = 0; /* counted over all launches */
	thread *current = nullptr;
	thread *picked = nullptr, *yielded = nullptr; /* by a fiber that went back to the scheduler */
	bool abandon = false;
	uint64_t random = 0;
	const void *main_stack = nullptr;
	size_t main_bytes = 0;
	void *main_sanitizer = nullptr;
	long launches = 0, switches = 0;
	std::string fault;
};

running *const the_one = new running; /* for good: its fibers never end */

inline running &all() {
	return *the_one;
}

uint64_t seed_now;

uint32_t draw(uint32_t below) {
	running &r = all();
	uint64_t z = r.random += 0x9E3779B97F4A7C15u;
	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return uint32_t(((z ^ (z >> 31)) >> 32) % below);
}

void keep_fault(const char *file, int line, const char *text) {
	running &r = all();
	char where[256];
	const char *base = std::strrchr(file, '/');
	if (r.current)
		std::snprintf(where, sizeof where, "%s, block (%u, %u, %u), thread (%u, %u, %u)", r.kernel.c_str(),
					  block_index.x, block_index.y, block_index.z, r.current->index.x, r.current->index.y,
					  r.current->index.z);
	else
		std::snprintf(where, sizeof where, "%s, block (%u, %u, %u)", r.kernel.c_str(), block_index.x, block_index.y,
					  block_index.z);
	if (r.fault.empty())
		r.fault = std::string(base ? base + 1 : file) + ":" + std::to_string(line) + ": " + text + " (" + where + ")";
	r.abandon = true;
}

/* From the scheduler into a fiber, and back when its thread yields. */
void enter(worker *w) {
	running &r = all();
	r.switches++;
#if defined(__SANITIZE_ADDRESS__)
	void *own = nullptr;
	__sanitizer_start_switch_fiber(&own, w->stack, w->stack_bytes);
#elif defined(__SANITIZE_THREAD__)
	r.main_sanitizer = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(w->sanitizer, 0);
#endif
	w->fiber = std::move(w->fiber).resume();
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(own, nullptr, nullptr);
#endif
	r.current = nullptr;
}

/* From a fiber to the scheduler, and back when it is to go on. */
void leave(worker *w) {
#if defined(__SANITIZE_ADDRESS__)
	running &r = all();
	__sanitizer_start_switch_fiber(&w->sanitizer, r.main_stack, r.main_bytes);
#elif defined(__SANITIZE_THREAD__)
	__tsan_switch_to_fiber(all().main_sanitizer, 0);
#endif
	w->back = std::move(w->back).resume();
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(w->sanitizer, &r.main_stack, &r.main_bytes);
#endif
}

void yield() {
	running &r = all();
	r.yielded = r.current;
	leave(r.current->on);
	if (r.abandon)
		throw abandoned();
}

/* The thread that goes on next; NULL: none can. */
thread *pick() {
	running &r = all();
	if (r.ready.empty())
		return nullptr;
	size_t at = seed_now ? draw(uint32_t(r.ready.size())) : r.ready.size() - 1;
	thread *t = r.threads[r.ready[at]].get();
	r.ready[at] = r.ready.back();
	r.ready.pop_back();
	return t;
}

void begin(thread *t, worker *w) {
	t->on = w;
	all().current = t;
	thread_index = t->index;
}

/* A fiber runs one thread after another, launch after launch. */
boost::context::fiber serve(worker *w, boost::context::fiber &&back) {
	running &r = all();
	w->back = std::move(back);
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(nullptr, &r.main_stack, &r.main_bytes);
#endif
	for (;;) {
		thread *t = r.current;
		try {
			(*r.body)();
		} catch (const abandoned &) {
		}
		t->state = DONE;
		t->on = nullptr;
		r.done++;
		r.picked = r.abandon ? nullptr : pick();
		if (r.picked && !r.picked->on) {
			begin(r.picked, w);
			r.picked = nullptr;
			continue;
		}
		r.idle.push_back(w);
		leave(w);
	}
}

worker *take_worker() {
	running &r = all();
	if (!r.idle.empty()) {
		worker *w = r.idle.back();
		r.idle.pop_back();
		return w;
	}
	worker *w = new worker;
	boost::context::protected_fixedsize_stack stacks(STACK);
	boost::context::stack_context stack = stacks.allocate();
	w->stack = static_cast<char *>(stack.sp) - stack.size;
	w->stack_bytes = stack.size;
#if defined(__SANITIZE_THREAD__)
	w->sanitizer = __tsan_create_fiber(0);
#endif
	w->fiber = boost::context::fiber(std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack),
									 stacks, [w](boost::context::fiber &&back) { return serve(w, std::move(back)); });
	return w;
}

/* Run a thread until it yields; fibers that end on the way run others that were picked. */
void run_thread(thread *t) {
	running &r = all();
	if (!t->on)
		begin(t, take_worker());
	r.current = t;
	thread_index = t->index;
	r.picked = r.yielded = nullptr;
	enter(t->on);
}

void make_thread(unsigned number) {
	running &r = all();
	if (number < r.threads.size())
		return;
	r.threads.emplace_back(new thread);
	r.threads.back()->number = number;
}

void drop(exchange *e) {
	if (e && --e->users == 0)
		all().exchanges.push_back(e);
}

exchange *take_exchange(unsigned users) {
	running &r = all();
	exchange *e;
	if (r.exchanges.empty()) {
		e = new exchange;
	} else {
		e = r.exchanges.back();
		r.exchanges.pop_back();
	}
	e->users = users;
	return e;
}

void make_ready(thread *t) {
	t->state = READY;
	all().ready.push_back(t->number);
}

const char *waiting_text(const thread *t) {
	return t->state == AT_BLOCK ? "__syncthreads()" : t->state == DONE ? "the kernel's end" : "a warp's collective";
}

/* Threads that wait for what will not come. */
void report_stuck() {
	running &r = all();
	char text[512];
	const thread *first = nullptr, *other = nullptr;
	for (unsigned i = 0; i < r.count; i++) {
		const thread *t = r.threads[i].get();
		if (t->state == DONE)
			continue;
		if (!first)
			first = t;
		else if (t->line != first->line || t->state != first->state || std::strcmp(t->file, first->file))
			other = t;
	}
	if (!first)
		return;
	if (!other && r.done)
		for (unsigned i = 0; i < r.count && !other; i++)
			other = r.threads[i]->state == DONE ? r.threads[i].get() : nullptr;
	if (other && other->state == DONE)
		std::snprintf(text, sizeof text, "divergent barrier: thread %u waits at %s, thread %u has left the kernel",
					  first->number, waiting_text(first), other->number);
	else if (other)
		std::snprintf(text, sizeof text, "divergent barrier: thread %u waits at %s, thread %u at %s of line %d",
					  first->number, waiting_text(first), other->number, waiting_text(other), other->line);
	else
		std::snprintf(text, sizeof text, "thread %u waits at %s of mask %08x for lanes that do not come", first->number,
					  waiting_text(first), first->mask);
	keep_fault(first->file, first->line, text);
}

/* All threads of a block are at a barrier: the same one? */
void release_block() {
	running &r = all();
	for (unsigned i = 1; i < r.count; i++)
		if (r.threads[i]->line != r.threads[0]->line || std::strcmp(r.threads[i]->file, r.threads[0]->file)) {
			report_stuck();
			return;
		}
	r.at_block = 0;
	r.epoch++;
	for (unsigned i = 0; i < r.count; i++)
		make_ready(r.threads[i].get());
}

/* The collective that `t` waits at, if all of its mask are there. */
void release_warp(thread *t) {
	running &r = all();
	unsigned base = t->number / WARP * WARP;
	for (unsigned l = 0; l < WARP; l++) {
		if (!(t->mask >> l & 1))
			continue;
		if (base + l >= r.count) {
			keep_fault(t->file, t->line, "a mask names lanes that the block does not have");
			return;
		}
		const thread *o = r.threads[base + l].get();
		if (o->state != AT_WARP)
			return;
		if (o->mask != t->mask || o->kind != t->kind || o->line != t->line || std::strcmp(o->file, t->file)) {
			char text[256];
			std::snprintf(text, sizeof text,
						  "divergent collective: lane %u with mask %08x, lane %u with mask %08x at line %d",
						  t->number % WARP, t->mask, l, o->mask, o->line);
			keep_fault(t->file, t->line, text);
			return;
		}
	}
	unsigned mask = t->mask;
	bool orders = t->kind == SYNC_WARP;
	exchange *all = take_exchange(unsigned(__builtin_popcount(mask)));
	uint32_t joined[WARP] = {0};
	for (unsigned l = 0; l < WARP; l++)
		if (mask >> l & 1) {
			const thread *o = r.threads[base + l].get();
			std::memcpy(all->slots[l], o->given, o->bytes);
			for (unsigned i = 0; i < WARP && orders; i++)
				joined[i] = std::max(joined[i], o->clock[i]);
		}
	for (unsigned l = 0; l < WARP; l++)
		if (mask >> l & 1) {
			thread *o = r.threads[base + l].get();
			drop(o->got);
			o->got = all;
			if (orders) {
				std::memcpy(o->clock, joined, sizeof joined);
				o->clock[l]++;
			}
			make_ready(o);
		}
}

void abandon_block() {
	running &r = all();
	r.abandon = true;
	for (unsigned i = 0; i < r.count; i++) {
		thread *t = r.threads[i].get();
		if (t->state != DONE && t->on)
			run_thread(t);
		t->state = DONE;
	}
	r.abandon = false;
}

/* What a thread that has yielded waits for. */
void settle(thread *t) {
	running &r = all();
	if (t->state == READY)
		r.ready.push_back(t->number);
	else if (t->state == AT_WARP)
		release_warp(t);
	else if (t->state == AT_BLOCK && ++r.at_block == r.count)
		release_block();
}

/* False: a fault. */
bool run_block() {
	running &r = all();
	r.ready.clear();
	r.at_block = r.done = 0;
	r.epoch = 1;
	r.block++;
	for (unsigned i = 0; i < r.count; i++) {
		thread *t = r.threads[i].get();
		t->index = dim3(i % block_size.x, i / block_size.x % block_size.y, i / block_size.x / block_size.y);
		std::memset(t->clock, 0, sizeof t->clock);
		t->clock[i % WARP] = 1;
		drop(t->got);
		t->got = nullptr;
	}
	for (unsigned i = r.count; i-- > 0;)
		make_ready(r.threads[i].get());
	for (thread *t = pick(); t && !r.abandon; t = r.picked ? r.picked : pick()) {
		run_thread(t);
		if (r.yielded && !r.abandon)
			settle(r.yielded);
	}
	if (!r.abandon && r.done < r.count)
		report_stuck();
	bool good = !r.abandon;
	if (!good)
		abandon_block();
	return good;
}

} // namespace

void run(const char *name, dim3 grid, dim3 block, const std::function<void()> &body) {
	running &r = all();
	if (!r.fault.empty())
		return; /* as behind a kernel that a GPU gave up on */
	r.kernel = name;
	r.body = &body;
	r.count = block.x * block.y * block.z;
	block_size = block;
	grid_size = grid;
	for (unsigned i = 0; i < r.count; i++)
		make_thread(i);
	uint64_t blocks = uint64_t(grid.x) * grid.y * grid.z, start = seed_now ? draw(uint32_t(blocks)) : 0;
	/* From anywhere on, and half the time backwards. */
	bool backwards = seed_now && draw(2);
	for (uint64_t i = 0; i < blocks; i++) {
		uint64_t b = (start + (backwards ? blocks - i : i)) % blocks;
		block_index = dim3(unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y));
		if (!run_block())
			break;
	}
	r.body = nullptr;
	if (!r.fault.empty())
		sl_fibers_faulted(name, r.fault.c_str());
}

namespace {

/* A later access of another thread is ordered behind one at (thread, epoch, clock). */
struct stamp {
	unsigned thread;
	uint32_t epoch, clock;
};

bool ordered(const stamp &s) {
	const thread *t = all().current;
	return s.thread == t->number || s.epoch < all().epoch ||
		   (s.thread / WARP == t->number / WARP && t->clock[s.thread % WARP] >= s.clock);
}

} // namespace

/* Readers since the last write, in `read_epoch`: lanes of one warp with their clocks, and whether there were others.
 * What was touched in an earlier block is as if it never was. */
struct element {
	uint64_t block = 0;
	bool written = false, read_by_others = false;
	stamp writer = {0, 0, 0};
	uint32_t read_epoch = 0, lanes = 0;
	unsigned read_warp = 0, other_reader = 0;
	uint32_t read_clock[WARP];
};

struct shared_block {
	std::string name, file;
	int line;
	size_t size;
	std::vector<unsigned char> bytes;
	std::vector<element> elements;
};

namespace {

/* A thread whose read is not ordered before this thread's write; -1: none. */
int unordered_reader(const element &e) {
	const thread *t = all().current;
	if (e.read_epoch != all().epoch || !e.lanes)
		return -1;
	unsigned first = e.read_warp * WARP + unsigned(__builtin_ctz(e.lanes));
	if (e.read_warp != t->number / WARP)
		return int(first);
	if (e.read_by_others)
		return int(e.other_reader);
	for (uint32_t rest = e.lanes & ~(1u << t->number % WARP); rest; rest &= rest - 1) {
		unsigned l = unsigned(__builtin_ctz(rest));
		if (t->clock[l] < e.read_clock[l])
			return int(e.read_warp * WARP + l);
	}
	return -1;
}

void note_reader(element *e) {
	const thread *t = all().current;
	unsigned warp = t->number / WARP, l = t->number % WARP;
	if (e->read_epoch != all().epoch || !e->lanes) {
		e->read_epoch = all().epoch;
		e->read_warp = warp;
		e->lanes = 0;
		e->read_by_others = false;
	}
	if (e->read_warp != warp) {
		e->read_by_others = true;
		e->other_reader = t->number;
		return;
	}
	e->lanes |= 1u << l;
	e->read_clock[l] = t->clock[l];
}

} // namespace

void fault(const char *file, int line, const char *format, ...) {
	char text[512];
	va_list list;
	va_start(list, format);
	std::vsnprintf(text, sizeof text, format, list);
	va_end(list);
	keep_fault(file, line, text);
	throw abandoned();
}

unsigned lane() {
	return all().current->number % WARP;
}

void sync_block(const char *file, int line) {
	thread *t = all().current;
	t->file = file;
	t->line = line;
	t->state = AT_BLOCK;
	yield();
}

const unsigned char *collect(collective kind, unsigned mask, const void *given, size_t bytes, const char *file,
							 int line) {
	thread *t = all().current;
	if (!(mask >> lane() & 1))
		fault(file, line, "lane %u takes part in a collective of mask %08x, which leaves it out", lane(), mask);
	t->file = file;
	t->line = line;
	t->kind = kind;
	t->mask = mask;
	std::memcpy(t->given, given, bytes);
	t->bytes = bytes;
	t->state = AT_WARP;
	yield();
	return &t->got->slots[0][0];
}

unsigned ballot(unsigned mask, bool predicate, const char *file, int line) {
	unsigned char given = predicate;
	const unsigned char *slots = collect(BALLOT, mask, &given, 1, file, line);
	unsigned out = 0;
	for (unsigned l = 0; l < WARP; l++)
		if (mask >> l & 1 && slots[l * SLOT])
			out |= 1u << l;
	return out;
}

void preempt() {
	thread *t = all().current;
	if (!seed_now)
		return;
	t->state = READY;
	yield();
}

shared_block *new_shared(size_t elements, size_t size, const char *name, const char *file, int line) {
	return new shared_block{
		name, file, line, size, std::vector<unsigned char>(elements * size), std::vector<element>(elements)};
}

unsigned char *access_shared(shared_block *b, int64_t index, bool write) {
	const running &r = all();
	const thread *t = r.current;
	const char *file = b->file.c_str();
	if (index < 0 || index >= int64_t(b->elements.size()))
		fault(file, b->line, "shared memory %s[%lld] of %zu elements", b->name.c_str(), (long long)index,
			  b->elements.size());
	element &e = b->elements[size_t(index)];
	if (e.block != r.block) {
		e.block = r.block;
		e.written = false;
		e.lanes = 0;
	}
	if (!write && !e.written)
		fault(file, b->line, "shared memory %s[%lld] is read before it is written", b->name.c_str(), (long long)index);
	if (e.written && !ordered(e.writer))
		fault(file, b->line,
			  "shared memory %s[%lld]: no barrier between the %s of this thread and the write of thread %u",
			  b->name.c_str(), (long long)index, write ? "write" : "read", e.writer.thread);
	if (write) {
		int reader = unordered_reader(e);
		if (reader >= 0)
			fault(file, b->line,
				  "shared memory %s[%lld]: no barrier between the write of this thread and the read of thread %d",
				  b->name.c_str(), (long long)index, reader);
		e.lanes = 0;
		e.writer = {t->number, r.epoch, t->clock[t->number % WARP]};
		e.written = true;
	} else {
		note_reader(&e);
	}
	return b->bytes.data() + size_t(index) * b->size;
}

bool may_launch(dim3 grid, dim3 block) {
	uint64_t threads = uint64_t(block.x) * block.y * block.z;
	all().launches++;
	return threads && threads <= MOST_THREADS && block.z <= 64 && grid.x && grid.y && grid.z && grid.x <= 0x7fffffffu &&
		   grid.y <= 65535 && grid.z <= 65535;
}

} // namespace sl_fibers

extern "C" {

void sl_fibers_seed(uint64_t seed) {
	sl_fibers::seed_now = seed;
	sl_fibers::all().random = seed;
}

const char *sl_fibers_fault(void) {
	return sl_fibers::all().fault.c_str();
}

void sl_fibers_reset(void) {
	sl_fibers::all().fault.clear();
	sl_fibers::all().launches = sl_fibers::all().switches = 0;
}

long sl_fibers_launches(void) {
	return sl_fibers::all().launches;
}

long sl_fibers_switches(void) {
	return sl_fibers::all().switches;
}
}
