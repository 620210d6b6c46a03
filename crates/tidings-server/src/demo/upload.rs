//! Uploads: a CSV of one's own for the export.
//!
//! Owns: their bounds and their files. Does not know: what is computed from them.
//! Flow: a request's body → a file, piece by piece → its name and number of rows.

use std::path::Path;

use anyhow::{Context, Result};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::Folder;

/// The largest file.
const BYTES_MAX: u64 = 64 << 20;
/// Files kept; the oldest goes first.
const FILES_MAX: usize = 20;

/// Takes a file.
pub(crate) async fn upload(folder: Folder, body: Body) -> Response {
    match store(&folder, body).await {
        Ok(Ok((upload, rows))) => {
            (StatusCode::CREATED, axum::Json(json!({ "upload": upload, "rows": rows }))).into_response()
        }
        Ok(Err(detail)) => problem(StatusCode::UNPROCESSABLE_ENTITY, "upload_invalid", detail),
        Err(error) => {
            tracing::warn!(%error, "an upload failed");
            problem(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the file could not be stored")
        }
    }
}

/// The outer error is the server's, the inner one is the file's.
async fn store(folder: &Folder, mut body: Body) -> Result<Result<(String, u64), &'static str>> {
    make_room(&folder.uploads())?;
    let id = format!("{:016x}", getrandom::u64().context("no random numbers")?);
    let path = folder.uploads().join(format!("{id}.csv"));
    let mut file = tokio::fs::File::create(&path).await?;
    let (mut bytes, mut lines, mut head) = (0_u64, 0_u64, Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        bytes += piece.len() as u64;
        if bytes > BYTES_MAX {
            tokio::fs::remove_file(&path).await?;
            return Ok(Err("the file is larger than 64 MiB"));
        }
        lines += piece.iter().filter(|b| **b == b'\n').count() as u64;
        if head.len() < 4096 {
            head.extend(piece.iter().take(4096 - head.len()));
        }
        file.write_all(&piece).await?;
    }
    file.flush().await?;
    let first = head.split(|b| *b == b'\n').next().unwrap_or_default();
    if !first.contains(&b',') || lines < 2 {
        tokio::fs::remove_file(&path).await?;
        return Ok(Err(
            "this is no CSV: the first line has to name at least two columns, rows have to follow",
        ));
    }
    Ok(Ok((id, lines - 1)))
}

fn make_room(folder: &Path) -> Result<()> {
    let mut files: Vec<_> = std::fs::read_dir(folder)?.filter_map(Result::ok).collect();
    files.sort_by_key(|f| f.metadata().and_then(|m| m.modified()).ok());
    let spare = (files.len() + 1).saturating_sub(FILES_MAX);
    files.iter().take(spare).try_for_each(|f| std::fs::remove_file(f.path()))?;
    Ok(())
}

fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    let body = json!({ "code": code, "status": status.as_u16(), "title": "The file was not taken", "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}
