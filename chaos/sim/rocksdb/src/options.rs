//! Options. Those that set how RocksDB uses memory and files mean nothing here.

use crate::{Snapshot, image::Rows};

/// Options of a database or of a column family.
#[derive(Default)]
pub struct Options;

/// Options of files.
#[derive(Default)]
pub struct BlockBasedOptions;

/// A cache of blocks.
pub struct Cache;

impl Cache {
    /// Of so many bytes.
    pub fn new_lru_cache(_: usize) -> Self {
        Self
    }
}

/// How files are compressed.
pub enum DBCompressionType {
    /// Not at all.
    None,
    /// LZ4.
    Lz4,
}

/// Which records of a write-ahead log are replayed.
pub enum DBRecoveryMode {
    /// Those before the first that is not whole.
    PointInTime,
}

macro_rules! without_meaning {
    ($of:ty { $($name:ident($($given:ty),*);)* }) => {
        impl $of {
            $(#[doc = "Without meaning here."] pub fn $name(&mut self, $(_: $given),*) {})*
        }
    };
}

without_meaning!(Options {
    create_if_missing(bool);
    create_missing_column_families(bool);
    set_wal_recovery_mode(DBRecoveryMode);
    set_paranoid_checks(bool);
    set_max_background_jobs(i32);
    set_keep_log_file_num(usize);
    set_max_log_file_size(usize);
    set_max_manifest_file_size(usize);
    set_stats_dump_period_sec(u32);
    set_stats_persist_period_sec(u32);
    set_bytes_per_sync(u64);
    set_allow_concurrent_memtable_write(bool);
    set_memtable_whole_key_filtering(bool);
    set_memtable_prefix_bloom_ratio(f64);
    set_write_buffer_size(usize);
    set_compression_type(DBCompressionType);
    set_block_based_table_factory(&BlockBasedOptions);
    set_max_open_files(i32);
    set_max_total_wal_size(u64);
    set_level_compaction_dynamic_level_bytes(bool);
    set_enable_blob_files(bool);
    set_min_blob_size(u64);
    set_blob_file_size(u64);
    set_blob_compression_type(DBCompressionType);
    set_enable_blob_gc(bool);
});

without_meaning!(BlockBasedOptions {
    set_block_cache(&Cache);
    set_block_size(usize);
    set_bloom_filter(f64, bool);
    set_format_version(i32);
});

/// A column family by name.
pub struct ColumnFamilyDescriptor(pub(crate) String);

impl ColumnFamilyDescriptor {
    /// With options.
    pub fn new(name: impl Into<String>, _: Options) -> Self {
        Self(name.into())
    }
}

/// Options of a read.
#[derive(Default)]
pub struct ReadOptions {
    pub(crate) lower: Option<Vec<u8>>,
    pub(crate) upper: Option<Vec<u8>>,
    pub(crate) snapshot: Option<Vec<Rows>>,
}

impl ReadOptions {
    /// Rows as they were then.
    pub fn set_snapshot(&mut self, snapshot: &Snapshot<'_>) {
        self.snapshot = Some(snapshot.families.clone());
    }

    /// Rows from here.
    pub fn set_iterate_lower_bound(&mut self, key: impl Into<Vec<u8>>) {
        self.lower = Some(key.into());
    }

    /// Rows to before here.
    pub fn set_iterate_upper_bound(&mut self, key: impl Into<Vec<u8>>) {
        self.upper = Some(key.into());
    }
}
