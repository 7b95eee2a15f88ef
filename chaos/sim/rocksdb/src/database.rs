//! A database that is open.

use std::{fs, marker::PhantomData, path::Path, sync::Arc};

use crate::{
    Error, WriteBatch, checkpoint,
    image::{self, Image, Rows, Shared},
    iterator::DBRawIterator,
    options::{ColumnFamilyDescriptor, Options, ReadOptions},
};

/// A column family: its place in the image.
pub struct ColumnFamily(pub(crate) usize);

/// An open database.
pub struct DB {
    image: Shared,
    families: Vec<(String, ColumnFamily)>,
}

impl DB {
    /// Opens it, or makes it.
    pub fn open_cf_descriptors(
        _: &Options,
        path: impl AsRef<Path>,
        families: impl IntoIterator<Item = ColumnFamilyDescriptor>,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let names: Vec<String> = families.into_iter().map(|family| family.0).collect();
        let current = path.join("CURRENT");
        let image = match fs::read_to_string(&current) {
            Ok(text) if text != checkpoint::MARK => {
                let number = text.trim().parse().map_err(Error::new)?;
                let image = image::find(number).ok_or_else(|| Error::new(format!("no image {number}")))?;
                path.clone_into(&mut image.lock().path);
                image
            }
            found => {
                let rows = if found.is_ok() { checkpoint::read(path)? } else { Vec::new() };
                fs::create_dir_all(path).map_err(Error::new)?;
                let (number, image) = image::keep(image_of(path, names, rows));
                fs::write(&current, number.to_string()).map_err(Error::new)?;
                image
            }
        };
        Ok(Self::of(image))
    }

    /// Opens a checkpoint to read it.
    pub fn open_cf_for_read_only<N: AsRef<str>>(
        _: &Options,
        path: impl AsRef<Path>,
        families: impl IntoIterator<Item = N>,
        _: bool,
    ) -> Result<Self, Error> {
        let path = path.as_ref();
        let names = families.into_iter().map(|name| name.as_ref().to_owned()).collect();
        let current = fs::read_to_string(path.join("CURRENT")).map_err(Error::new)?;
        if current != checkpoint::MARK {
            return Err(Error::new(format!("{} is not a checkpoint", path.display())));
        }
        let image = image_of(path, names, checkpoint::read(path)?);
        Ok(Self::of(Arc::new(parking_lot::Mutex::new(image))))
    }

    fn of(image: Shared) -> Self {
        let families =
            image.lock().names.iter().enumerate().map(|(at, name)| (name.clone(), ColumnFamily(at))).collect();
        Self { image, families }
    }

    pub(crate) fn with<R>(&self, f: impl FnOnce(&Image) -> R) -> R {
        f(&self.image.lock())
    }

    fn rows(&self, family: &ColumnFamily) -> Rows {
        self.image.lock().rows[family.0].clone()
    }

    /// The column family of this name.
    pub fn cf_handle(&self, name: &str) -> Option<&ColumnFamily> {
        self.families.iter().find(|(own, _)| own == name).map(|(_, family)| family)
    }

    /// The value of a row.
    pub fn get_cf(&self, family: &ColumnFamily, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.image.lock().rows[family.0].get(key.as_ref()).map(|value| value.to_vec()))
    }

    /// The same under options.
    pub fn get_cf_opt(
        &self,
        family: &ColumnFamily,
        key: impl AsRef<[u8]>,
        options: &ReadOptions,
    ) -> Result<Option<Vec<u8>>, Error> {
        match &options.snapshot {
            Some(families) => Ok(families[family.0].get(key.as_ref()).map(|value| value.to_vec())),
            None => self.get_cf(family, key),
        }
    }

    /// Sets one row.
    pub fn put_cf(&self, family: &ColumnFamily, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        batch.put_cf(family, key, value);
        self.write(batch)
    }

    /// Writes a batch. It is not synced.
    pub fn write(&self, batch: WriteBatch) -> Result<(), Error> {
        self.image.lock().write(batch);
        Ok(())
    }

    /// Makes everything written so far durable, if `sync`.
    pub fn flush_wal(&self, sync: bool) -> Result<(), Error> {
        if sync {
            self.image.lock().sync();
        }
        Ok(())
    }

    /// The rows of this moment.
    pub fn snapshot(&self) -> Snapshot<'_> {
        Snapshot { families: self.image.lock().rows.clone(), db: PhantomData }
    }

    /// Walks the rows of this moment.
    pub fn raw_iterator_cf(&self, family: &ColumnFamily) -> DBRawIterator<'_> {
        self.raw_iterator_cf_opt(family, ReadOptions::default())
    }

    /// The same within bounds.
    pub fn raw_iterator_cf_opt(&self, family: &ColumnFamily, options: ReadOptions) -> DBRawIterator<'_> {
        DBRawIterator::new(self.rows(family), options)
    }

    /// Sizes, about: a database in memory has no files.
    pub fn property_int_value_cf(&self, family: &ColumnFamily, property: &str) -> Result<Option<u64>, Error> {
        const ROW_BYTES: u64 = 128;
        let rows = self.image.lock().rows[family.0].len() as u64;
        Ok(property.contains("mem-tables").then_some(rows * ROW_BYTES))
    }

    /// Nothing is in files.
    pub fn delete_file_in_range_cf(
        &self,
        _: &ColumnFamily,
        _: impl AsRef<[u8]>,
        _: impl AsRef<[u8]>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

fn image_of(path: &Path, names: Vec<String>, stored: Vec<(String, Rows)>) -> Image {
    let rows = names
        .iter()
        .map(|name| stored.iter().find(|(own, _)| own == name).map(|(_, rows)| rows.clone()).unwrap_or_default())
        .collect();
    Image::new(path, names, rows)
}

/// The rows of one moment.
pub struct Snapshot<'a> {
    pub(crate) families: Vec<Rows>,
    db: PhantomData<&'a DB>,
}

impl Snapshot<'_> {
    /// Walks the rows within bounds.
    pub fn raw_iterator_cf_opt(&self, family: &ColumnFamily, options: ReadOptions) -> DBRawIterator<'_> {
        DBRawIterator::new(self.families[family.0].clone(), options)
    }
}
