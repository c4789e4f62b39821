//! The bucket contract over real protocols: S3 in Amazon's and in Google's flavour, and Google's JSON API.

use std::sync::Arc;

use crate::storage::{gcs, s3};
use recorder_tests::bucket::{Flavour, GcsServer, S3Options, S3Server};
use store::Bucket;

async fn open_aws() -> (S3Server, Arc<dyn Bucket>) {
    let server = S3Server::start("AKTEST", "SKTEST-very-secret").await;
    let bucket = s3(&server).await;
    (server, bucket)
}

/// Pages of two, so that every listing goes over several pages.
async fn open_google() -> (S3Server, Arc<dyn Bucket>) {
    let options = S3Options { flavour: Flavour::Google, page_size: 2, ..S3Options::default() };
    let server = S3Server::start_with(options).await;
    let bucket = s3(&server).await;
    (server, bucket)
}

async fn open_gcs() -> (GcsServer, Arc<dyn Bucket>) {
    let server = GcsServer::start().await;
    let bucket = gcs(&server).await;
    (server, bucket)
}

store::bucket_contract!(s3_amazon, open_aws);
// The server refuses conditions on writes (reliability.md test 13); what the suite says of them is a look beforehand.
store::bucket_contract!(gcs_hmac_no_preconditions, open_google);
store::bucket_contract!(google_service_account, open_gcs);
