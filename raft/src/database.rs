//! How the two RocksDB instances of a replica are opened. Memory and open files are bounded, whatever they hold: by the caches, the
//! write buffers, and 1 to 2 MiB of filter and index for each of at most 256 open files of the state.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, Options,
};

use crate::error::FatalError;

/// Column families of the log database.
pub(crate) mod log_cf {
    /// The entries, by index (8 bytes, big endian).
    pub(crate) const ENTRIES: &str = "entries";
    /// Vote, purge marker, committed index, identity.
    pub(crate) const META: &str = "meta";
    /// Bytes logged up to some indexes, see `sizes.rs`.
    pub(crate) const SIZES: &str = "sizes";
}

/// Column families of the state database.
pub(crate) mod state_cf {
    /// The application's rows.
    pub(crate) const ROWS: &str = "rows";
    /// What Raft keeps beside them: last applied, membership, level, group time, admitted members.
    pub(crate) const META: &str = "meta";
}

const MIB: usize = 1 << 20;

/// What both databases share. The recovery mode ends a replay at the first record that is not whole: what a power cut
/// tore. The floor (`log_store/floor.rs`) tells that from damage to what had been acknowledged.
fn common() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_paranoid_checks(true);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(MIB);
    options.set_max_manifest_file_size(8 * MIB);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_bytes_per_sync(MIB as u64);
    // Each database has one writer at nearly all times, whose batches are in the order of their keys.
    options.set_allow_concurrent_memtable_write(false);
    options
}

fn table(cache: &Cache, block_bytes: usize) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(block_bytes);
    // Filters and indexes are no part of the cache: an open file keeps its own, 1 to 2 MiB of one of 64 MiB. In the cache, reads all over
    // a million configs threw them out and read them anew.
    table.set_bloom_filter(10.0, false);
    table.set_format_version(5);
    table
}

fn family(name: &str, write_buffer: usize, table: &BlockBasedOptions) -> (String, Options) {
    let mut options = Options::default();
    options.set_write_buffer_size(write_buffer);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(table);
    (name.to_owned(), options)
}

fn open(options: &Options, path: &Path, families: Vec<(String, Options)>) -> Result<DB, FatalError> {
    let families = families.into_iter().map(|(name, options)| ColumnFamilyDescriptor::new(name, options));
    DB::open_cf_descriptors(options, path, families)
        .map_err(|e| FatalError(format!("the database {} cannot be opened: {e}", path.display())))
}

/// Opens the log. Entries are written once, in order, read soon and deleted in order: they are never rewritten by
/// compaction (files do not overlap), so that large ones need no blob files.
pub(crate) fn open_log(path: &Path) -> Result<DB, FatalError> {
    let cache = Cache::new_lru_cache(8 * MIB);
    let mut options = common();
    options.set_max_open_files(128);
    options.set_max_total_wal_size(64 * MIB as u64);
    let table = table(&cache, 32 << 10);
    let (name, mut entries) = family(log_cf::ENTRIES, 16 * MIB, &table);
    // Most files are gone soon after they were written.
    entries.set_compression_type(DBCompressionType::None);
    let families = vec![(name, entries), family(log_cf::META, MIB, &table), family(log_cf::SIZES, MIB, &table)];
    open(&options, path, families)
}

/// Opens the state. Contents of up to 1 MiB live in blob files, so that compaction moves keys and not contents.
pub(crate) fn open_state(path: &Path, cache_bytes: usize) -> Result<DB, FatalError> {
    let cache = Cache::new_lru_cache(cache_bytes);
    let mut options = common();
    options.set_max_open_files(256);
    options.set_max_total_wal_size(128 * MIB as u64);
    let table = table(&cache, 4 << 10);
    let (name, mut rows) = family(state_cf::ROWS, 32 * MIB, &table);
    // Half of what a command looks for is not there: a filter of a fiftieth of the buffer says so without a search.
    rows.set_memtable_whole_key_filtering(true);
    rows.set_memtable_prefix_bloom_ratio(0.02);
    rows.set_level_compaction_dynamic_level_bytes(true);
    rows.set_enable_blob_files(true);
    rows.set_min_blob_size(32 << 10);
    rows.set_blob_file_size(64 * MIB as u64);
    rows.set_blob_compression_type(DBCompressionType::Lz4);
    rows.set_enable_blob_gc(true);
    open(&options, path, vec![(name, rows), family(state_cf::META, MIB, &table)])
}

/// Opens a checkpoint of the state only to read what is in it.
pub(crate) fn open_checkpoint(path: &Path) -> Result<DB, FatalError> {
    let options = Options::default();
    DB::open_cf_for_read_only(&options, path, [state_cf::ROWS, state_cf::META], false)
        .map_err(|e| FatalError(format!("the snapshot {} cannot be read: {e}", path.display())))
}

/// A column family that [`open_log`] or [`open_state`] made.
pub(crate) fn cf<'a>(db: &'a DB, name: &str) -> Result<&'a ColumnFamily, FatalError> {
    db.cf_handle(name).ok_or_else(|| FatalError(format!("storage: column family {name} is missing")))
}
