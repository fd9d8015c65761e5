//! From the text of a job file to a [`Plan`]: raw mirror, layers (defaults, file, environment, flags), validation with
//! line and column.

pub use crate::model::plan::*;
