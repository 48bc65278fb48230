//! A handler of WASI 0.3 with a neighbour that can do what it can: the path says who of the two is to do `do`, and in
//! which order both.

use faults::Target;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

wit_bindgen::generate!({
    inline: "
        package fixture:parts-async;

        interface neighbour {
            act: async func(target: string) -> string;
        }

        world front {
            import neighbour;
        }
    ",
});

use fixture::parts_async::neighbour;

wasip3::http::service::export!(Front);

struct Front;

impl wasip3::exports::http::handler::Guest for Front {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let target = Target::parse(&target);
        let what = target.text("do").unwrap_or_default();
        let answer = match target.path {
            "/own" => acts_p3::act(&what).await,
            "/theirs" => neighbour::act(what).await,
            "/own-first" => format!("{} {}", acts_p3::act(&what).await, neighbour::act(what).await),
            "/theirs-first" => {
                let theirs = neighbour::act(what.clone()).await;
                format!("{theirs} {}", acts_p3::act(&what).await)
            }
            _ => "no such path".to_owned(),
        };
        let (mut writer, reader) = wit_stream::new();
        let (_, trailers) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(Fields::new(), Some(reader), trailers);
        spawn_local(async move {
            writer.write_all(answer.into_bytes()).await;
        });
        Ok(response)
    }
}
