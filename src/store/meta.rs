//! What each database says about itself.

use redb::{ReadableTable, TableDefinition};

use super::database::HealingDatabase;
use super::document;
use super::error::StoreError;
use super::position::LogId;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// The id of the log in this database, made when the database is new.
pub(super) fn log_id(database: &HealingDatabase) -> Result<LogId, StoreError> {
    database.write(|transaction| {
        let mut table = transaction.open_table(META).map_err(|cause| database.error(cause))?;
        let stored = table.get("log").map_err(|cause| database.error(cause))?.map(|id| id.value().to_vec());
        match stored {
            Some(id) => {
                let id = <[u8; 16]>::try_from(id.as_slice());
                id.map(LogId).map_err(|_| document::bad(&"the log's id is cut"))
            }
            None => {
                let fresh = *uuid::Uuid::new_v4().as_bytes();
                table.insert("log", fresh.as_slice()).map_err(|cause| database.error(cause))?;
                Ok(LogId(fresh))
            }
        }
    })
}
