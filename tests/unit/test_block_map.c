/* The map of blocks by itself, and what it saves a get. */
#include <stdio.h>
#include <stdlib.h>

#include "block_map.h"
#include "engine_fixture.h"

TestSuite(block_map, .timeout = 120);

static const struct index_point point = {100, 4096, 7};

static struct block_place place(uint64_t first_id)
{
	return (struct block_place){first_id, 4096 + 10 * first_id, {100, 100, 10, (uint32_t)first_id}};
}

/* Blocks of ten entries each, for ids [from, to). */
static void add(struct block_maps *maps, uint64_t serial, uint64_t from, uint64_t to)
{
	struct block_place places[200];
	size_t count = 0;
	const struct index_point begin = {from, from == point.id ? point.offset : 4096 + 10 * from, 0};
	const struct index_point end = {to, 4096 + 10 * to, 0};
	for (uint64_t id = from; id < to; id += 10)
		places[count++] = place(id);
	block_maps_add(maps, serial, &point, &begin, &end, places, count);
}

static bool finds(struct block_maps *maps, uint64_t serial, uint64_t id, struct index_point *at)
{
	struct block_place found;
	*at = point;
	if (!block_maps_find(maps, serial, id, at, &found))
		return false;
	cr_assert(found.first_id <= id && id < found.first_id + 10, "%lu for %lu", (unsigned long)found.first_id,
		(unsigned long)id);
	cr_assert(found.offset == place(found.first_id).offset && found.block.crc == found.first_id);
	return true;
}

Test(block_map, what_was_added_is_found)
{
	struct block_maps *maps = block_maps_new(1 << 20);
	struct index_point at;
	cr_assert(!finds(maps, 1, 100, &at) && at.offset == point.offset);
	add(maps, 1, 100, 150);
	for (uint64_t id = 100; id < 150; id++)
		cr_assert(finds(maps, 1, id, &at));
	cr_assert(!finds(maps, 1, 150, &at) && at.id == 150 && at.offset == 4096 + 1500, "walking goes on at its end");
	cr_assert(!finds(maps, 1, 99, &at));
	cr_assert(!finds(maps, 2, 120, &at) && at.offset == point.offset, "another segment");
	add(maps, 1, 150, 170);
	add(maps, 1, 150, 170); /* a second one has walked the same way */
	add(maps, 1, 180, 190); /* it does not begin where the map ends */
	cr_assert(finds(maps, 1, 169, &at) && finds(maps, 1, 100, &at));
	cr_assert(!finds(maps, 1, 185, &at) && at.id == 170);
	block_maps_free(maps);
}

Test(block_map, it_keeps_to_its_bound)
{
	struct block_maps *maps = block_maps_new(4000); /* for about a hundred blocks */
	struct index_point at;
	unsigned kept = 0;
	for (uint64_t serial = 0; serial < 100; serial++) {
		add(maps, serial, 100, 200);
		cr_assert(finds(maps, serial, 155, &at), "the newest one is kept");
	}
	for (uint64_t serial = 0; serial < 100; serial++)
		kept += finds(maps, serial, 155, &at);
	cr_assert(kept > 0 && kept <= 10, "%u", kept);
	add(maps, 1000, 100, 2100); /* more than all of it */
	cr_assert(!finds(maps, 1000, 100, &at) && at.offset == point.offset);
	block_maps_free(maps);
}

Test(block_map, a_get_reads_one_block)
{
	struct fixture f;
	struct error err;
	fixture_init(&f);
	fixture_open(&f);
	for (uint64_t i = 0; i < 50; i++) /* frames of six pages: all behind one point of the index, or two */
		cr_assert(fixture_append(&f, "a", i, 20, 1000, APPEND_BATCH, 0).code == ERR_NONE);
	cr_assert(fixture_get(&f, "a", 999, 49, 19, 1000, &err) == ERR_NONE);
	for (uint64_t id = 0; id < 1000; id += 7)
		cr_assert(fixture_get(&f, "a", id, id / 20, id % 20, 1000, &err) == ERR_NONE);
	uint64_t before = sim_count(f.io, SIM_PREAD);
	for (uint64_t id = 0; id < 980; id += 7)
		cr_assert(fixture_get(&f, "a", id, id / 20, id % 20, 1000, &err) == ERR_NONE);
	cr_assert(sim_count(f.io, SIM_PREAD) - before == 140, "%lu",
		(unsigned long)(sim_count(f.io, SIM_PREAD) - before));
	/* What is damaged answers so, also where the map knows its place. */
	const char *path = fixture_file(&f, "a", ".wal", 0);
	cr_assert(sim_flip_bit(f.io, path, (uint64_t)fixture_info(&f, "a").bytes / 2, 1) == 0);
	unsigned damaged = 0;
	for (uint64_t id = 0; id < 1000; id++)
		damaged += fixture_get(&f, "a", id, id / 20, id % 20, 1000, &err) != ERR_NONE;
	cr_assert(damaged >= 1 && damaged <= 4, "%u", damaged);
	fixture_die(&f);
	fixture_free(&f);
}
