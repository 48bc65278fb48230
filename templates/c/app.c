#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"

// What is passed in belongs to us, and what is returned to the caller, who frees it.
void exports_local_app_handler_handle(exports_local_app_handler_request_t *req,
                                      exports_local_app_handler_response_t *ret) {
    static const char greeting[] = "Hello from C at ";
    size_t head = sizeof greeting - 1;

    ret->status = 200;
    ret->headers.len = 1;
    ret->headers.ptr = malloc(sizeof *ret->headers.ptr);
    app_string_dup(&ret->headers.ptr[0].f0, "content-type");
    app_string_dup(&ret->headers.ptr[0].f1, "text/plain; charset=utf-8");

    ret->body.len = head + req->path.len + 1;
    ret->body.ptr = malloc(ret->body.len);
    memcpy(ret->body.ptr, greeting, head);
    memcpy(ret->body.ptr + head, req->path.ptr, req->path.len);
    ret->body.ptr[ret->body.len - 1] = '\n';

    exports_local_app_handler_request_free(req);
}
