//! Waits for another component and hands on what it says.

wit_bindgen::generate!({ path: "../wit", world: "link" });

use exports::test::later::jobs::Guest;
use test::later::jobs;

struct Link;

impl Guest for Link {
    async fn double(value: u32) -> u32 {
        jobs::double(value).await
    }
    async fn follow(trail: String) -> String {
        jobs::follow(trail + " rust").await
    }
    async fn refuse(why: String) -> Result<u32, String> {
        jobs::refuse(why).await
    }
}

export!(Link);
