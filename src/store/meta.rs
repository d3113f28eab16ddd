//! What each database says about itself.

use redb::{TableDefinition, TableError, WriteTransaction};

use super::database::HealingDatabase;
use super::document;
use super::error::StoreError;
use super::position::LogId;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const LOG: &str = "log";

/// The id of the log in this database. When the database is new, makes one, and all tables with
/// `make_tables`, at once; otherwise writes nothing, so that a store opens on a disk that is full.
pub(super) fn log_id(
    database: &HealingDatabase,
    make_tables: impl FnOnce(&WriteTransaction) -> Result<(), TableError>,
) -> Result<LogId, StoreError> {
    let there = database.read(|transaction| {
        let table = match transaction.open_table(META) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            table => table.map_err(|cause| database.error(cause))?,
        };
        let id = table.get(LOG).map_err(|cause| database.error(cause))?;
        let id =
            id.map(|id| <[u8; 16]>::try_from(id.value()).map_err(|_| document::bad(&"the log's id is cut")));
        id.transpose()
    })?;
    if let Some(id) = there {
        return Ok(LogId(id));
    }
    let fresh = *uuid::Uuid::new_v4().as_bytes();
    database.write(|transaction| {
        make_tables(transaction).map_err(|cause| database.error(cause))?;
        let mut table = transaction.open_table(META).map_err(|cause| database.error(cause))?;
        table.insert(LOG, fresh.as_slice()).map_err(|cause| database.error(cause))?;
        Ok(LogId(fresh))
    })
}
